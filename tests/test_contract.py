"""The whole proxy against the page that says what frontends may rely on, through HTTP."""

import gzip
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
import zstandard
from aiohttp.test_utils import TestServer

from proxy.app import Running, run_proxy
from proxy.demo.legacy import make_legacy
from proxy.query import ShapeName
from proxy.settings import load_settings
from tests.agreement import disagreements
from tests.oracle import expect
from tests.oracle_measures import RateMode
from tests.public_port import Reply, ask, get, make_database, message, post, serving

DATA = "/data"
ANALYTICS = "/analytics/data"
OPTIMIZED = "/analytics/data/optimized"
ROUTES = [
    f"{mount}{path}" for mount in ("", "/api/dashboard") for path in (DATA, ANALYTICS, OPTIMIZED)
]
RANGE: dict[str, Any] = {"start_date": "2024-06-01", "end_date": "2024-06-30"}
HIT = "dashboard-proxy; hit"
STORED = "dashboard-proxy; fwd=miss; stored"

DASHBOARD_NUMBERS = {
    "trials", "trial_conversion_rate", "trial_refund_rate", "purchases", "purchase_refund_rate",
    "spend", "estimated_revenue", "profit", "roas",
}  # fmt: skip
DASHBOARD_ROW = DASHBOARD_NUMBERS | {"id", "entity_type", "name", "children", "breakdown_data"}
ANALYTICS_NUMBERS = {
    "mixpanel_trials_started", "trial_users_count", "total_users", "new_users",
    "mixpanel_purchases", "purchase_users_count",
    "meta_trials_started", "meta_purchases", "impressions", "clicks", "spend",
    "trial_conversion_rate", "avg_trial_conversion_rate", "conversion_rate",
    "trial_refund_rate", "avg_trial_refund_rate",
    "purchase_refund_rate", "avg_purchase_refund_rate",
    "trial_conversion_rate_estimated", "trial_refund_rate_estimated",
    "purchase_refund_rate_estimated",
    "estimated_revenue_usd", "mixpanel_revenue_usd", "estimated_revenue_adjusted",
    "actual_revenue_usd", "actual_refunds_usd", "net_actual_revenue_usd", "profit",
    "roas", "estimated_roas", "performance_impact_score",
    "trial_accuracy_ratio", "purchase_accuracy_ratio",
}  # fmt: skip
ANALYTICS_ROW = ANALYTICS_NUMBERS | {
    "id", "entity_type", "entity_id", "name", "campaign_id", "campaign_name",
    "children", "breakdown_data", "breakdowns",
}  # fmt: skip
OF_LEVEL: dict[str, set[str]] = {
    "campaign": set(),
    "adset": {"adset_id", "adset_name"},
    "ad": {"adset_id", "adset_name", "ad_id", "ad_name"},
}
SPARKLINE_DAY = {
    "date", "rolling_1d_roas", "rolling_1d_spend", "rolling_1d_revenue",
    "rolling_1d_conversions", "rolling_1d_trials", "rolling_1d_meta_trials",
    "rolling_window_days", "has_data",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("demo") / "tables.db", "s")


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(made, tmp_path / "tables.db"))


@pytest.fixture
async def running(database: Path) -> AsyncIterator[Running]:
    async with serving(database) as running:
        yield running


def body_of(**parameters: object) -> bytes:
    return orjson.dumps({**RANGE, **parameters})


def json_of(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(reply.body)
    return found


async def answer(running: Running, path: str, **parameters: object) -> dict[str, Any]:
    reply = await ask(running.url, post(path, body_of(**parameters)))
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    return json_of(reply)


def rows_below(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found for row in rows for found in (row, *rows_below(row["children"]))]


# Rows and metadata


async def test_each_row_of_the_dashboard_shape_has_its_fields_and_no_other(
    running: Running,
) -> None:
    found = await answer(running, DATA, breakdown="country")
    assert set(found) == {"success", "data", "metadata"}
    assert found["success"] is True
    rows = rows_below(found["data"])
    assert [len(rows), len(found["data"])] == [5 + 5 * 3 + 5 * 3 * 4, 5]
    for row in rows:
        assert set(row) == DASHBOARD_ROW
        assert row["breakdown_data"]
        for part in row["breakdown_data"]:
            assert set(part) == DASHBOARD_NUMBERS | {"breakdown_type", "breakdown_value"}
    assert set(found["metadata"]) == {
        "total_records", "query_time_ms", "date_range", "generated_at", "computed_at",
        "data_source", "warnings",
    }  # fmt: skip
    assert found["metadata"]["total_records"] == 5
    assert found["metadata"]["date_range"] == "2024-06-01 to 2024-06-30"
    assert found["metadata"]["warnings"] == []
    # Percent here, as in 15.5; a fraction in the other shape.
    assert all(1 < row["trial_conversion_rate"] <= 100 for row in found["data"])


async def test_each_row_of_the_analytics_shape_has_its_fields_and_no_other(
    running: Running,
) -> None:
    found = await answer(
        running, OPTIMIZED, group_by="campaign", breakdown="device", include_sparkline=True
    )
    rows = rows_below(found["data"])
    assert {row["entity_type"] for row in rows} == set(OF_LEVEL)
    for row in rows:
        assert set(row) == ANALYTICS_ROW | OF_LEVEL[row["entity_type"]] | {"sparkline_data"}
        assert row["id"] == f"{row['entity_type']}_{row['entity_id']}"
        assert 0 < row["trial_conversion_rate"] <= 1
        assert [day["date"] for day in row["sparkline_data"]] == [
            f"2024-06-{day}" for day in range(17, 31)
        ]
        for day in row["sparkline_data"]:
            assert set(day) == SPARKLINE_DAY
            assert day["rolling_window_days"] == 1
        for part in row["breakdown_data"]:
            assert set(part) == ANALYTICS_NUMBERS | {"breakdown_type", "breakdown_value"}
        (older,) = row["breakdowns"]
        assert older["type"] == "device"
        for value, part in zip(older["values"], row["breakdown_data"], strict=True):
            assert value["name"] == part["breakdown_value"]
            assert value["id"] == f"{part['breakdown_value']}_{row['entity_id']}"
            assert {name: value[name] for name in ANALYTICS_NUMBERS} == {
                name: part[name] for name in ANALYTICS_NUMBERS
            }
    assert set(found["metadata"]) == {
        "query_config", "record_count", "date_range", "generated_at", "data_source",
        "computed_at", "warnings",
    }  # fmt: skip
    assert found["metadata"]["data_source"] == "pre_computed_optimized"
    assert found["metadata"]["query_config"] == {
        **RANGE,
        "group_by": "campaign",
        "breakdown": "device",
        "depth": 3,
        "include_sparkline": True,
    }


@pytest.mark.parametrize("rate_mode", ["mean", "ratio"])
async def test_every_number_of_both_shapes_is_what_the_tables_say(
    database: Path, rate_mode: RateMode
) -> None:
    asked: list[tuple[ShapeName, str, dict[str, Any]]] = [
        ("dashboard", DATA, RANGE),
        ("dashboard", DATA, {**RANGE, "hierarchy": "adset", "breakdown": "region"}),
        ("analytics", OPTIMIZED, RANGE),
        ("analytics", ANALYTICS, {**RANGE, "group_by": "campaign", "breakdown": "country"}),
        ("analytics", OPTIMIZED, {**RANGE, "group_by": "adset", "include_sparkline": True}),
    ]
    async with serving(database, rate_mode=rate_mode) as running:
        replies = [
            await ask(running.url, post(path, orjson.dumps(parameters)))
            for _, path, parameters in asked
        ]
    # Afterwards: the oracle's own SQLite would disturb the locks of the proxy's.
    for (shape, _, parameters), reply in zip(asked, replies, strict=True):
        expected = expect(database, None, parameters, rate_mode, shape)
        assert disagreements(expected, json_of(reply)) == []


# Parameters


@pytest.mark.parametrize("path", ROUTES)
async def test_get_and_post_are_one_question_on_every_route(running: Running, path: str) -> None:
    first = await ask(running.url, post(path, body_of(breakdown="country", depth=1)))
    query = urlencode({"depth": 1, **RANGE, "breakdown": "country"})
    second = await ask(running.url, get(f"{path}?{query}"))
    assert [first.headers["cache-status"], second.headers["cache-status"]] == [STORED, HIT]
    assert second.body == first.body
    assert second.headers["etag"] == first.headers["etag"]


async def test_an_alias_is_the_same_question_and_another_shape_another_one(
    running: Running,
) -> None:
    statuses = []
    for path in (*ROUTES, *ROUTES):
        body = body_of(
            **({"hierarchy": "ad"} if path.endswith("board/data") or path == DATA else {})
        )
        statuses.append((await ask(running.url, post(path, body))).headers["cache-status"])
    assert statuses == [STORED, STORED] + 10 * [HIT]


@pytest.mark.parametrize(
    ("path", "spelled_out"),
    [
        (DATA, {"hierarchy": "campaign"}),
        (OPTIMIZED, {"group_by": "ad", "include_mixpanel": True, "enable_breakdown_mapping": 0}),
    ],
)
async def test_defaults_are_as_if_they_had_been_sent(
    running: Running, path: str, spelled_out: dict[str, Any]
) -> None:
    given = await ask(running.url, post(path, body_of()))
    defaults = {"breakdown": "all", "depth": 3, "include_sparkline": False, **spelled_out}
    assert given.headers["cache-status"] == STORED
    whole = await ask(running.url, post(path, body_of(**defaults)))
    assert (whole.headers["cache-status"], whole.body) == (HIT, given.body)
    (row, *_) = json_of(given)["data"]
    level = spelled_out.get("hierarchy") or spelled_out["group_by"]
    assert row["entity_type"] == level
    assert row["breakdown_data"] == []
    assert "sparkline_data" not in row


@pytest.mark.parametrize(
    "other",
    [
        {"start_date": "2024-06-02"},
        {"end_date": "2024-06-29"},
        {"hierarchy": "adset"},
        {"breakdown": "country"},
        {"depth": 1},
        {"depth": 2},
        {"include_sparkline": True},
    ],
)
async def test_a_request_that_means_something_else_has_an_answer_of_its_own(
    running: Running, other: dict[str, Any]
) -> None:
    await ask(running.url, post(DATA, body_of()))
    reply = await ask(running.url, post(DATA, body_of(**other)))
    assert reply.headers["cache-status"] == STORED


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_depth_is_how_many_levels_are_sent(running: Running, depth: int) -> None:
    rows = rows_below((await answer(running, DATA, depth=depth))["data"])
    sent = ["campaign", "adset", "ad"][:depth]
    assert {row["entity_type"] for row in rows} == set(sent)
    assert all(bool(row["children"]) == (row["entity_type"] != sent[-1]) for row in rows)


LISTED = "Must be one of: ['campaign', 'adset', 'ad']"
BREAKDOWNS = "Must be one of: ['all', 'country', 'region', 'device']"
REAL_DATE = "Must be a date that exists, as YYYY-MM-DD"


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        (DATA, b"", "No data provided in request"),
        (DATA, b"{}", "No data provided in request"),
        (OPTIMIZED, b"", "No data provided in request"),
        (DATA, b'{"end_date":"2024-06-30"}', "Missing required parameter: start_date"),
        (DATA, b'{"start_date":"2024-06-30"}', "Missing required parameter: end_date"),
        (DATA, body_of(breakdown="age"), f"Invalid breakdown parameter. {BREAKDOWNS}"),
        (DATA, body_of(breakdown=None), f"Invalid breakdown parameter. {BREAKDOWNS}"),
        (OPTIMIZED, body_of(group_by="account"), f"Invalid group_by parameter. {LISTED}"),
        (DATA, body_of(hierarchy="account"), f"Invalid hierarchy parameter. {LISTED}"),
        (DATA, body_of(start_date="2024-02-30"), f"Invalid start_date parameter. {REAL_DATE}"),
        (DATA, body_of(end_date="30.06.2024"), f"Invalid end_date parameter. {REAL_DATE}"),
        (DATA, body_of(end_date="2024-05-31"), "Must not be before start_date"),
        (DATA, body_of(start_date="2020-01-01"), "The range must span at most 1100 days"),
        (DATA, body_of(depth=0), "Invalid depth parameter. Must be one of: [1, 2, 3]"),
        (DATA, body_of(depth="1"), "Invalid depth parameter. Must be one of: [1, 2, 3]"),
        (DATA, body_of(include_sparkline=1), "Invalid include_sparkline parameter."),
        (DATA, b"[1]", "Invalid request body. Must be a JSON object"),
        (DATA, body_of(group_by="ad"), "Unknown parameter group_by."),
        (OPTIMIZED, body_of(hierarchy="ad"), "Unknown parameter hierarchy."),
        (DATA, body_of(breakdown="age", limit=3), "Unknown parameter limit."),
    ],
)
async def test_what_is_wrong_is_told_with_400_and_its_name(
    running: Running, path: str, body: bytes, error: str
) -> None:
    for mount in ("", "/api/dashboard"):
        reply = await ask(running.url, post(mount + path, body))
        found = json_of(reply)
        assert reply.status == 400
        assert set(found) == {"success", "error"}
        assert found["success"] is False
        assert error in found["error"]
        if error.startswith(("No data", "Missing")) or "Must be one of: ['" in error:
            assert found["error"] == error


async def test_the_longest_range_is_the_operators(database: Path) -> None:
    async with serving(database, max_range_days=30) as running:
        within = await ask(running.url, post(DATA, body_of()))
        over = await ask(running.url, post(DATA, body_of(start_date="2024-05-31")))
    assert (within.status, over.status) == (200, 400)


async def test_a_parameter_that_nobody_knows_goes_to_the_legacy_and_is_not_kept(
    database: Path, tmp_path: Path
) -> None:
    behind = Path(shutil.copyfile(database, tmp_path / "legacy.db"))
    async with (
        TestServer(make_legacy(behind, None)) as legacy,
        serving(database, legacy_url=str(legacy.make_url("/").origin())) as running,
    ):
        replies = [
            await ask(running.url, post(f"/api/dashboard{ANALYTICS}", body_of(limit=3)))
            for _ in range(2)
        ]
        ours = await ask(running.url, post(f"/api/dashboard{ANALYTICS}", body_of()))
    for reply in replies:
        assert reply.status == 200
        assert reply.headers["x-dashboard-source"] == "legacy"
        assert reply.headers["x-dashboard-variant"] == "legacy"
        assert "; fwd=bypass" in reply.headers["cache-status"]
        assert "etag" not in reply.headers
    assert ours.headers["x-dashboard-source"] == "optimized"
    assert ours.headers["x-dashboard-variant"] == "optimized"


# Headers


async def test_a_miss_and_a_hit_have_the_headers_of_the_contract(running: Running) -> None:
    miss = await ask(running.url, post(DATA, body_of()))
    hit = await ask(running.url, post(DATA, body_of()))
    for reply in (miss, hit):
        assert reply.headers["etag"].startswith('"')
        assert reply.headers["cache-control"] == "private, no-cache"
        assert reply.headers["vary"] == "Accept-Encoding"
        assert reply.headers["age"].isdigit()
        assert "fill;dur=" in reply.headers["server-timing"]
        assert reply.headers["x-dashboard-source"] == "optimized"
        assert reply.headers["x-data-watermark"] == "2024-07-01 03:00:00"
        assert "x-dashboard-variant" not in reply.headers
        assert "x-dashboard-warning" not in reply.headers
    assert (miss.headers["cache-status"], hit.headers["cache-status"]) == (STORED, HIT)
    assert len(miss.headers["x-request-id"]) == 32
    assert "x-request-id" not in hit.headers
    assert hit.headers["etag"] == miss.headers["etag"]


async def test_a_callers_request_id_comes_back_on_a_miss_and_on_a_hit(running: Running) -> None:
    for status in (STORED, HIT, HIT):
        reply = await ask(running.url, post(DATA, body_of(), "X-Request-ID: mine"))
        assert reply.headers["cache-status"] == status
        assert reply.headers["x-request-id"] == "mine"


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ('"a","b" , W/{etag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("{bare}", 200),
    ],
)
async def test_who_has_the_bytes_gets_304_without_them(
    running: Running, tags: str, status: int
) -> None:
    etag = (await ask(running.url, post(DATA, body_of()))).headers["etag"]
    known = tags.format(etag=etag, bare=etag.strip('"'))
    # Twice: the second one is answered from the raw bytes of the request.
    for _ in range(2):
        reply = await ask(running.url, post(DATA, body_of(), f"If-None-Match: {known}"))
        assert reply.status == status
        assert bool(reply.body) == (status == 200)
        assert reply.headers["etag"] == etag
        assert reply.headers["vary"] == "Accept-Encoding"
        assert reply.headers["cache-control"] == "private, no-cache"


async def test_every_coding_holds_the_same_json(running: Running) -> None:
    plain = await ask(running.url, post(DATA, body_of()))
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zstd": zstandard.decompress,
    }
    for accepted, coding in (("gzip", "gzip"), ("zstd", "zstd"), ("gzip, br, zstd", "zstd")):
        for _ in range(2):
            reply = await ask(running.url, post(DATA, body_of(), f"Accept-Encoding: {accepted}"))
            assert reply.headers["content-encoding"] == coding
            assert len(reply.body) < len(plain.body)
            assert unpack[coding](reply.body) == plain.body
            assert reply.headers["etag"] != plain.headers["etag"]
    for accepted in ("br", "identity", "gzip;q=0, zstd;q=0"):
        reply = await ask(running.url, post(DATA, body_of(), f"Accept-Encoding: {accepted}"))
        assert "content-encoding" not in reply.headers
        assert reply.body == plain.body


async def test_head_has_the_headers_of_get_without_the_body(running: Running) -> None:
    target = f"{DATA}?{urlencode(RANGE)}"
    whole = await ask(running.url, get(target))
    for _ in range(2):
        head = await ask(running.url, message("HEAD", target))
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.body))
        assert head.headers["etag"] == whole.headers["etag"]
        assert head.headers["content-type"] == "application/json"


async def test_the_watermark_is_that_of_the_range_and_none_where_there_are_no_rows(
    running: Running,
) -> None:
    empty = await ask(
        running.url, post(DATA, body_of(start_date="2019-01-01", end_date="2019-01-02"))
    )
    found = json_of(empty)
    assert (empty.status, found["success"], found["data"]) == (200, True, [])
    assert len(found["metadata"]["warnings"]) == 1
    assert found["metadata"]["computed_at"] is None
    assert empty.headers["x-data-watermark"] == "none"
    assert empty.headers["x-dashboard-warning"] == "no_rows"


# What an operator sets


async def test_a_field_of_the_operators_stands_in_every_row(database: Path) -> None:
    config = database.with_name("proxy.toml")
    config.write_text(
        f'database = "{database}"\nport = 0\nadmin_port = 0\n'
        '[shapes.analytics.fields]\ncost_per_click = "spend / clicks"\n'
        '[shapes.dashboard.fields]\nmeta_spend_usd = "meta_spend"\n'
    )
    async with run_proxy(load_settings(config, {}, {})) as running:
        analytics = await answer(running, OPTIMIZED, group_by="campaign", breakdown="country")
        dashboard = await answer(running, DATA)
    rows = rows_below(analytics["data"])
    assert len(rows) > 5
    for row in rows:
        assert set(row) == ANALYTICS_ROW | OF_LEVEL[row["entity_type"]] | {"cost_per_click"}
        for numbers in (row, *row["breakdown_data"], *row["breakdowns"][0]["values"]):
            cost = numbers["spend"] / numbers["clicks"] if numbers["clicks"] else 0
            assert abs(numbers["cost_per_click"] - cost) <= 0.5e-6 + 1e-9
    for row in rows_below(dashboard["data"]):
        assert row["meta_spend_usd"] == row["spend"]


async def test_a_page_of_a_named_origin_may_ask_and_read(database: Path) -> None:
    origin = "https://dashboard.example"
    settings = load_settings(
        None,
        {},
        {
            "PROXY_DATABASE": str(database),
            "PROXY_STATE": str(database.with_name("state.db")),
            "PROXY_PORT": "0",
            "PROXY_ADMIN_PORT": "0",
            "PROXY_CORS_ORIGINS": f"{origin},https://other.example",
        },
    )
    wanted = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    async with run_proxy(settings) as running:
        preflight = await ask(
            running.url, message("OPTIONS", OPTIMIZED, f"Origin: {origin}", *wanted)
        )
        mine = [
            await ask(running.url, post(OPTIMIZED, body_of(), f"Origin: {origin}"))
            for _ in range(2)
        ]
        strange = await ask(
            running.url, post(OPTIMIZED, body_of(), "Origin: https://strange.example")
        )
    assert preflight.status == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "content-type"
    for reply in (preflight, *mine):
        assert reply.headers["access-control-allow-origin"] == origin
    assert mine[1].headers["cache-status"] == HIT
    assert "Accept-Encoding" in mine[1].headers["vary"]
    assert "Origin" in mine[1].headers["vary"]
    assert "ETag" in mine[1].headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in strange.headers
    assert strange.body == mine[0].body
