"""The demo's legacy application: right numbers the slow way, its habits, and its misbehaviour."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestClient

from proxy.demo.data import Size, make_demo
from proxy.demo.fields import FIELDS
from proxy.demo.legacy import LEGACY, make_legacy
from proxy.demo.misbehaviour import Misbehaviour, parse_misbehaviour, spoil

END = date(2024, 3, 31)
TINY = Size(campaigns=2, adsets=2, ads=3, days=6, density=0.8)
API = "/api/dashboard/analytics"
ASKED = {"start_date": "2024-03-28", "end_date": "2024-03-31", "group_by": "campaign"}

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]


class TickingClock:
    """A microsecond passes with each look."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> float:
        self._looks += 1
        return 1_711_962_000 + self._looks / 1_000_000

    def monotonic(self) -> float:
        return 0.0


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    made = (tmp_path / "daily.db", tmp_path / "meta.db")
    make_demo(*made, size=TINY, end=END)
    return made


@pytest.fixture
async def client(paths: tuple[Path, Path], aiohttp_client: MakeClient) -> Client:
    return await aiohttp_client(make_legacy(*paths, clock=TickingClock(), poll_hold_s=30))


async def ask(client: Client, **asked: object) -> Any:
    response = await client.post(f"{API}/data", json={**ASKED, **asked})
    assert response.status == 200
    return await response.json()


def every(records: list[Any]) -> Iterator[Any]:
    for record in records:
        yield record
        yield from every(record["children"])


async def test_sums_and_means_equal_direct_sql_at_every_level(
    client: Client, paths: tuple[Path, Path]
) -> None:
    expected = {
        f"{level}_{entity_id}": numbers
        for level, entity_id, *numbers in rows(
            paths[0],
            "SELECT entity_type, entity_id, SUM(trial_users_count), SUM(purchase_users_count),"
            " SUM(meta_impressions), ROUND(SUM(meta_spend), 2), ROUND(SUM(profit_usd), 2),"
            " ROUND(SUM(adjusted_estimated_revenue_usd), 2), AVG(estimated_roas),"
            " AVG(trial_conversion_rate_actual), AVG(purchase_accuracy_ratio)"
            " FROM daily_mixpanel_metrics WHERE date BETWEEN '2024-03-28' AND '2024-03-31'"
            " GROUP BY 1, 2",
        )
    }
    names = ["mixpanel_trials_started", "mixpanel_purchases", "impressions", "spend", "profit"]
    names += ["estimated_revenue_adjusted", "estimated_roas", "trial_conversion_rate"]
    names += ["purchase_accuracy_ratio"]
    answer = await ask(client)
    found = {record["id"]: [record[name] for name in names] for record in every(answer["data"])}
    assert found.keys() == expected.keys()
    for key, numbers in found.items():
        assert numbers == pytest.approx(expected[key], abs=0.000_000_6)


async def test_records_are_ordered_named_and_nested(
    client: Client, paths: tuple[Path, Path]
) -> None:
    data = (await ask(client))["data"]
    revenue = [record["estimated_revenue_adjusted"] for record in data]
    assert revenue == sorted(revenue, reverse=True)
    assert [len(data), *(len(record["children"]) for record in data)] == [2, 2, 2]
    names = dict(rows(paths[0], "SELECT entity_id, canonical_name FROM id_name_mapping"))
    ad = data[0]["children"][0]["children"][0]
    assert ad["children"] == []
    assert ad["name"] == ad["ad_name"] == names[ad["ad_id"]]
    assert ad["adset_name"] == names[ad["adset_id"]] == data[0]["children"][0]["name"]
    assert ad["campaign_name"] == names[ad["campaign_id"]] == data[0]["name"]
    assert "adset_id" not in data[0]


@pytest.mark.parametrize("kind", ["country", "region", "device"])
async def test_the_values_of_a_breakdown_add_up_to_their_record(client: Client, kind: str) -> None:
    data = (await ask(client, breakdown=kind))["data"]
    for record in every(data):
        [breakdown] = record["breakdowns"]
        assert breakdown["type"] == kind
        for name in ("mixpanel_trials_started", "spend", "profit"):
            parts = sum(part[name] for part in breakdown["values"])
            assert parts == pytest.approx(record[name], abs=0.001)
        first = breakdown["values"][0]
        assert first["id"] == f"{first['name']}_{record[record['entity_type'] + '_id']}"


async def test_narrow_tables_take_spend_from_the_meta_database(
    client: Client, tmp_path: Path, paths: tuple[Path, Path], aiohttp_client: MakeClient
) -> None:
    narrow = tmp_path / "narrow.db"
    make_demo(narrow, None, size=TINY, end=END, form="narrow", counts="users")
    other = await aiohttp_client(make_legacy(narrow, paths[1]))
    wide_rows = every((await ask(client, breakdown="country"))["data"])
    wide = {record["id"]: record for record in wide_rows}
    data = (await ask(other, breakdown="country"))["data"]
    same = ("spend", "impressions", "meta_purchases", "mixpanel_purchases", "estimated_revenue_usd")
    for record in every(data):
        twin = wide[record["id"]]
        assert [record[name] for name in same] == [twin[name] for name in same]
        parts = {part["id"]: part["spend"] for part in record["breakdowns"][0]["values"]}
        assert parts == {part["id"]: part["spend"] for part in twin["breakdowns"][0]["values"]}
        assert record["profit"] == round(record["estimated_revenue_usd"] - record["spend"], 2)
        assert record["trial_conversion_rate"] == 0
    assert {record["id"] for record in every(data)} == wide.keys()


async def test_a_flat_deployment_has_flat_records(
    tmp_path: Path, aiohttp_client: MakeClient
) -> None:
    flat = tmp_path / "flat.db"
    make_demo(flat, None, size=TINY, end=END, has_hierarchy=False, has_breakdown=False)
    client = await aiohttp_client(make_legacy(flat, None))
    data = (await ask(client, group_by="adset"))["data"]
    assert [record["children"] for record in data] == [[], [], [], []]
    assert {record["campaign_id"] for record in data} == {None}


async def test_answers_are_compact_sorted_and_differ_only_in_generated_at(client: Client) -> None:
    texts = []
    for _ in range(2):
        response = await client.post(f"{API}/data", json=ASKED)
        assert "ETag" not in response.headers
        texts.append(await response.text())
    first, second = (json.loads(text) for text in texts)
    compact = json.dumps(first, sort_keys=True, separators=(",", ":"))
    assert texts[0] == compact
    assert first["metadata"].pop("generated_at") != second["metadata"].pop("generated_at")
    assert first == second


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "No data provided in request"),
        ("[1]", "No data provided in request"),
        ("{}", "No data provided in request"),
        ('{"end_date": "2024-01-01"}', "Missing required parameter: start_date"),
        (
            json.dumps({**ASKED, "breakdown": "age"}),
            "Invalid breakdown parameter. Must be one of: ['all', 'country', 'region', 'device']",
        ),
        (
            json.dumps({**ASKED, "group_by": ["ad"]}),
            "Invalid group_by parameter. Must be one of: ['campaign', 'adset', 'ad']",
        ),
        (
            json.dumps({**ASKED, "end_date": "2024-02-30"}),
            "Invalid end_date parameter. Must be YYYY-MM-DD",
        ),
    ],
)
async def test_what_it_refuses(client: Client, body: str, error: str) -> None:
    response = await client.post(f"{API}/data", data=body)
    assert response.status == 400
    assert await response.json() == {"success": False, "error": error}


async def test_database_errors_look_like_no_data(
    tmp_path: Path, aiohttp_client: MakeClient
) -> None:
    client = await aiohttp_client(make_legacy(tmp_path / "none.db", None))
    assert await ask(client) == {"success": True, "data": []}
    response = await client.get(f"{API}/date-range")
    assert await response.json() == {"success": True, "data": []}


async def test_pages_ask_for_a_password_where_one_is_set_and_the_api_does_not(
    paths: tuple[Path, Path], aiohttp_client: MakeClient
) -> None:
    client = await aiohttp_client(make_legacy(*paths, auth=("ann", "pass:word")))
    refused = await client.get("/")
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    for password, status in (("wrong", 401), ("pass:word", 200)):
        headers = {"Authorization": encode_basic_auth("ann", password)}
        assert (await client.get("/", headers=headers)).status == status
    assert (await client.post(f"{API}/data", json=ASKED)).status == 200


async def test_the_page_names_a_script_that_is_there(client: Client) -> None:
    page = await client.get("/")
    assert page.content_type == "text/html"
    assert 'src="/static/dashboard.js"' in await page.text()
    script = await client.get("/static/dashboard.js")
    assert script.status == 200
    assert f'"{API}"' in await script.text()


async def test_the_smaller_routes_answer_from_the_tables(
    client: Client, paths: tuple[Path, Path]
) -> None:
    span = {"start_date": "2024-03-28", "end_date": "2024-03-31"}

    async def data_of(method: str, path: str, **options: Any) -> Any:
        response = await client.request(method, path, **options)
        assert response.status == 200
        return (await response.json())["data"]

    # 1,711,962,000 seconds after the epoch is the first of April.
    assert await data_of("GET", f"{API}/date-range") == {
        "earliest_date": "2024-03-26",
        "latest_date": "2024-04-01",
    }
    chart = await data_of("GET", f"{API}/overview-roas-chart", params=span)
    [(spend,)] = rows(
        paths[0],
        "SELECT SUM(meta_spend) FROM daily_mixpanel_metrics"
        " WHERE date = '2024-03-28' AND entity_type = 'campaign'",
    )
    assert (len(chart), chart[0]["date"]) == (4, "2024-03-28")
    assert chart[0]["spend"] == pytest.approx(spend, abs=0.006)
    assert len(await data_of("GET", f"{API}/overview-roas-chart")) == TINY.days

    [(ad_id, users)] = rows(
        paths[0],
        "SELECT entity_id, trial_user_ids FROM daily_mixpanel_metrics"
        " WHERE date = '2024-03-30' AND trial_user_ids IS NOT NULL AND entity_type = 'ad' LIMIT 1",
    )
    entity = {"entity_type": "ad", "entity_id": ad_id}
    day = {"start_date": "2024-03-30", "end_date": "2024-03-30"}
    tooltip = await data_of("GET", f"{API}/user-details-tooltip", params={**entity, **day})
    assert tooltip["trial_user_ids"] == json.loads(users)
    own = await data_of("POST", f"{API}/chart-data", json={**entity, **day})
    assert [line["trials"] for line in own] == [len(json.loads(users))]
    values = await data_of("POST", f"{API}/segments", json=span)
    assert {line["type"] for line in values} == {"country", "device", "region"}
    assert (await data_of("GET", "/api/pipelines"))[0]["last_run"] == "2024-04-01 03:00:00"
    assert await (await client.get("/api/running")).json() == {"running": []}


async def test_a_missing_entity_is_refused_by_name(client: Client) -> None:
    response = await client.post(f"{API}/chart-data", json={"entity_type": "ad"})
    assert response.status == 400
    assert (await response.json())["error"] == "Missing required parameter: entity_id"


async def test_options_carry_its_own_cors_headers(client: Client) -> None:
    preflight = await client.options(f"{API}/data", headers={"Origin": "http://elsewhere"})
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    answer = await client.get("/api/running")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in (await client.get("/")).headers


async def test_a_websocket_echoes(client: Client) -> None:
    async with client.ws_connect("/socket.io/?EIO=4&transport=websocket") as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "2probe"
        await socket.send_bytes(b"\x00\x01")
        assert await socket.receive_bytes() == b"\x00\x01"


async def test_a_long_poll_waits_for_what_is_posted(client: Client) -> None:
    opening = await (await client.get("/socket.io/?transport=polling")).text()
    sid = json.loads(opening[1:])["sid"]
    poll = asyncio.create_task(client.get(f"/socket.io/?sid={sid}"))
    posted = await client.post(f"/socket.io/?sid={sid}", data='42["hello"]')
    assert await posted.text() == "ok"
    assert await (await poll).text() == '42["hello"]'
    assert (await client.get("/socket.io/?sid=nobody")).status == 400
    assert (await client.post("/socket.io/?sid=nobody")).status == 400


async def test_a_poll_without_news_ends_with_a_noop(
    paths: tuple[Path, Path], aiohttp_client: MakeClient
) -> None:
    client = await aiohttp_client(make_legacy(*paths, poll_hold_s=0))
    opening = await (await client.get("/socket.io/")).text()
    sid = json.loads(opening[1:])["sid"]
    assert await (await client.get(f"/socket.io/?sid={sid}")).text() == "6"


async def test_requests_are_counted_by_path(client: Client) -> None:
    await ask(client)
    await ask(client)
    await client.get("/api/running")
    await client.get("/nowhere")
    counted = await (await client.get("/__demo/requests")).json()
    assert counted == {f"{API}/data": 2, "/api/running": 1, "/nowhere": 1}
    await client.delete("/__demo/requests")
    assert await (await client.get("/__demo/requests")).json() == {}


async def misbehave(client: Client, **how: object) -> None:
    response = await client.post("/__demo/misbehave", json=how)
    assert response.status == 200
    shown = await (await client.get("/__demo/misbehave")).json()
    assert {name: shown[name] for name in how} == how


async def test_it_can_be_made_wrong_while_running_and_right_again(client: Client) -> None:
    right = (await ask(client, breakdown="device"))["data"]
    await misbehave(client, field="spend", factor=1.5, missing="clicks")
    wrong = (await ask(client, breakdown="device"))["data"]
    for good, bad in zip(every(right), every(wrong), strict=True):
        assert bad["spend"] == pytest.approx(good["spend"] * 1.5, abs=0.000_001)
        assert "clicks" not in bad
        parts = good["breakdowns"][0]["values"], bad["breakdowns"][0]["values"]
        for good_part, bad_part in zip(*parts, strict=True):
            assert bad_part["spend"] == pytest.approx(good_part["spend"] * 1.5, abs=0.000_001)
        assert bad["profit"] == good["profit"]
    await misbehave(client)
    assert (await ask(client, breakdown="device"))["data"] == right


async def test_it_can_be_made_to_fail_and_to_hide_its_rows(client: Client) -> None:
    await misbehave(client, error_rate=1.0, error_status=503)
    response = await client.post(f"{API}/data", json=ASKED)
    assert response.status == 503
    assert (await response.json())["success"] is False
    await misbehave(client, is_empty=True)
    assert (await ask(client))["data"] == []


async def test_slowness_holds_the_answer_back(
    paths: tuple[Path, Path], aiohttp_client: MakeClient
) -> None:
    slept: list[float] = []
    go_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await go_on.wait()

    client = await aiohttp_client(make_legacy(*paths, sleep=sleep))
    await misbehave(client, slow_s=42.0)
    answer = asyncio.create_task(ask(client))
    await client.get("/api/running")
    assert not answer.done()
    go_on.set()
    assert len((await answer)["data"]) == TINY.campaigns
    assert slept == [42.0]


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ([], "JSON object"),
        ({"speed": 1}, "unknown speed"),
        ({"factor": "2"}, "factor"),
        ({"factor": True}, "factor"),
        ({"is_empty": 1}, "is_empty"),
        ({"error_status": None}, "error_status"),
        ({"error_rate": 1.5}, "error_rate"),
        ({"error_status": 200}, "error_status"),
        ({"noise": -1}, "noise"),
    ],
)
async def test_a_misbehaviour_that_cannot_be_is_refused(
    client: Client, raw: object, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        parse_misbehaviour(raw)
    response = await client.post("/__demo/misbehave", json=raw)
    assert response.status == 400
    assert named in (await response.json())["error"]


def record(**fields: Any) -> dict[str, Any]:
    return {"entity_type": "ad", "spend": 10.0, "clicks": 100, "children": [], **fields}


def test_good_behaviour_changes_nothing() -> None:
    records: list[dict[str, Any]] = [record()]
    assert spoil(records, Misbehaviour(), Random(1)) == [record()]


def test_noise_moves_every_number_by_at_most_its_share() -> None:
    [noisy] = spoil([record(estimated_roas=0.5)], Misbehaviour(noise=0.1), Random(1))
    for name, value in (("spend", 10.0), ("clicks", 100), ("estimated_roas", 0.5)):
        assert name in FIELDS
        assert noisy[name] != value
        assert noisy[name] == pytest.approx(value, rel=0.1)
    assert isinstance(noisy["clicks"], int)


def test_child_rates_can_be_percent_and_adsets_repeated_per_ad() -> None:
    ads = [record(trial_conversion_rate=0.25), record(trial_conversion_rate=0.5)]
    adset = record(entity_type="adset", trial_conversion_rate=0.3, children=ads)
    campaign = record(entity_type="campaign", trial_conversion_rate=0.3, children=[adset])
    how = Misbehaviour(has_percent_children=True, has_repeated_adsets=True)
    [spoilt] = spoil([campaign], how, Random(1))
    assert spoilt["trial_conversion_rate"] == 0.3
    children: Any = spoilt["children"]
    assert [child["trial_conversion_rate"] for child in children] == [30.0, 30.0]
    assert [ad["trial_conversion_rate"] for ad in children[0]["children"]] == [25.0, 50.0]
    assert campaign["children"] == [adset]


async def test_work_is_given_up_when_the_application_stops(
    client: Client, paths: tuple[Path, Path]
) -> None:
    app = client.app
    assert app is not None
    await app[LEGACY].stop(app)
    response = await client.post(f"{API}/data", json=ASKED)
    assert response.status == 503
    assert repr(app[LEGACY]) == "<Legacy daily.db requests=1>"


async def test_stopping_lets_waiting_polls_and_sockets_go(client: Client) -> None:
    app = client.app
    assert app is not None
    opening = await (await client.get("/socket.io/")).text()
    sid = json.loads(opening[1:])["sid"]
    async with client.ws_connect("/socket.io/") as socket:
        poll = asyncio.create_task(client.get(f"/socket.io/?sid={sid}"))
        await client.get("/api/running")
        await asyncio.gather(app[LEGACY].stop(app), socket.receive())
        assert socket.close_code == 1001
        assert await (await poll).text() == "1"


def test_it_starts_as_its_own_process() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "proxy.demo.legacy", "--help"], capture_output=True, timeout=60
    )
    assert shown.returncode == 0
    assert b"--meta-database" in shown.stdout
