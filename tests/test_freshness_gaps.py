"""A whole proxy with its own times: deletes that only counts show, and a database's late folder."""

import time
from datetime import date
from pathlib import Path

import aiohttp

from proxy.app import run_proxy
from proxy.demo.data import Size, make_demo
from proxy.settings import Settings
from tests.public_port import serving
from tests.writer import Writer

SMALL = Size(campaigns=2, adsets=2, ads=2, days=10)
END = date(2024, 3, 31)
LIMIT_S = 2.0
"""Within which deleted rows are to be found."""


async def asked(session: aiohttp.ClientSession, url: str, day: str) -> tuple[int, str]:
    """The status, and `Cache-Status` without the proxy's name."""
    question = {"start_date": day, "end_date": day}
    async with session.post(url, json=question) as response:
        status = response.headers.get("Cache-Status", "")
        return response.status, status.removeprefix("dashboard-proxy; ")


async def test_deleted_rows_are_found_within_two_seconds_off_the_request_path(
    tmp_path: Path,
) -> None:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=SMALL, end=END)
    day, other = "2024-03-24", "2024-03-25"
    with Writer(path) as writer:
        # Rows of the newest hours are read again after each commit. These are older.
        writer.sql(
            "UPDATE daily_mixpanel_metrics SET computed_at = '2024-03-26 03:00:00'"
            f" WHERE date <= '{other}'"
        )
        async with serving(path) as running, aiohttp.ClientSession() as session:
            url = str(running.url.with_path("/data"))
            for one in (day, other):
                assert await asked(session, url, one) == (200, "fwd=miss; stored")
            # One row of fourteen: more would look as if the tables were being emptied.
            writer.sql(
                "DELETE FROM daily_mixpanel_metrics WHERE metric_id = (SELECT MIN(metric_id) FROM"
                f" daily_mixpanel_metrics WHERE date = '{day}')"
            )
            deleted_at = time.monotonic()
            # Nobody waits for the count: what it may find is found later.
            assert await asked(session, url, day) == (200, "hit")
            while (after := await asked(session, url, day)) == (200, "hit"):
                assert time.monotonic() - deleted_at < LIMIT_S
            # The warm-up may have begun the same load a moment before.
            assert (after[0], after[1].removesuffix("; collapsed")) == (200, "fwd=stale; stored")
            assert await asked(session, url, other) == (200, "hit")


async def test_a_database_whose_folder_comes_late_is_followed(tmp_path: Path) -> None:
    volume, elsewhere = tmp_path / "volume", tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_demo(elsewhere / "daily.db", None, size=SMALL, end=END)
    settings = Settings(
        database=str(volume / "daily.db"), port=0, admin_port=0, state=tmp_path / "state.db"
    )
    async with run_proxy(settings) as running, aiohttp.ClientSession() as session:
        url = str(running.url.with_path("/data"))
        assert (await asked(session, url, "2024-03-24"))[0] == 503
        elsewhere.rename(volume)
        assert await asked(session, url, "2024-03-24") == (200, "fwd=miss; stored")
        volume.rename(elsewhere)
        assert (await asked(session, url, "2024-03-24"))[0] == 200
        assert (await asked(session, url, "2024-03-25"))[0] == 503
        elsewhere.rename(volume)
        assert await asked(session, url, "2024-03-24") == (200, "hit")
        assert await asked(session, url, "2024-03-25") == (200, "fwd=miss; stored")
