"""The OpenAPI document is valid, has every route, and says what is really answered."""

import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi import definitions
from yarl import URL

from proxy import app_listening
from proxy.app import Running
from proxy.app_openapi import facts_of
from proxy.demo.legacy import make_legacy
from proxy.handlers.admin_runner import AdminRunner
from proxy.handlers.dashboard import ROUTES
from proxy.openapi.document import make_document
from proxy.query import BREAKDOWNS, LEVELS
from proxy.settings import Settings
from tests.openapi_judge import Judge
from tests.proxies import ProxyProcess
from tests.public_port import END, make_database, serving
from tests.waiting import until

Json = dict[str, Any]

PUBLIC = "http://dash:8080"
ADMIN = "http://dash:8081"
TOKEN = "the-admin-token"
RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
NO_ROWS = {"start_date": "2031-01-01", "end_date": "2031-01-02"}
ANALYTICS = "/api/dashboard/analytics/data"


def document(**settings: Any) -> Json:
    facts = facts_of(Settings(database="tables.db", **settings))
    return make_document(facts, public_url=PUBLIC, admin_url=ADMIN)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"legacy_url": "http://127.0.0.1:5000", "admin_token": TOKEN, "auth": "forward"},
    {"shapes": {"analytics": {"fields": {"cost_per_click": "spend / clicks"}}}},
    {
        "legacy_url": "http://127.0.0.1:5000",
        "cached_routes": ({"path": "/api/chart", "methods": ["GET", "POST"], "key": ["start"]},),
    },
]


def schemas_in(part: Any) -> Iterator[Json]:
    """Everything that stands where a schema stands."""
    if isinstance(part, list):
        for item in part:
            yield from schemas_in(item)
    elif isinstance(part, dict):
        if isinstance(part.get("schema"), dict):
            yield part["schema"]
        for name, item in part.items():
            if name == "schemas":
                yield from item.values()
            yield from schemas_in(item)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "plain")
def test_the_document_is_valid_openapi_3_1(settings: dict[str, Any]) -> None:
    told = document(**settings)
    # The official schema of the specification, as that library ships it.
    errors = list(Draft202012Validator(definitions.OPENAPI_31).iter_errors(told))
    assert errors == []
    schemas = list(schemas_in(told))
    assert len(schemas) > 100
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "plain")
def test_whatever_is_referred_to_is_there_and_used(settings: dict[str, Any]) -> None:
    told = document(**settings)
    used = set(re.findall(r'"#/components/([^"]+)"', orjson.dumps(told).decode()))
    components = told["components"]
    there = {f"{kind}/{name}" for kind in ("schemas", "responses") for name in components[kind]}
    assert used <= there
    # A message of a status that depends on the settings may be left over.
    assert {name for name in there - used if name.startswith("schemas/")} <= {"schemas/Question"}


def test_operations_have_names_of_their_own() -> None:
    operations = [
        operation
        for item in document()["paths"].values()
        for method, operation in item.items()
        if method != "servers"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) > 30
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


@asynccontextmanager
async def applications(
    monkeypatch: pytest.MonkeyPatch, database: Path, **settings: Any
) -> AsyncIterator[tuple[Running, web.Application]]:
    """A whole proxy and the application on its admin port."""
    made: list[web.Application] = []

    class Noted(AdminRunner):
        def __init__(self, app: web.Application, **options: Any) -> None:
            made.append(app)
            super().__init__(app, **options)

    monkeypatch.setattr(app_listening, "AdminRunner", Noted)
    async with serving(database, **settings) as running:
        yield running, made[0]


async def test_every_route_is_in_the_document_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database = make_database(tmp_path / "tables.db")
    async with applications(monkeypatch, database) as (_, app):
        found = {
            (cast(web.Resource, route.resource).canonical, route.method)
            for route in app.router.routes()
            # HEAD comes with each GET.
            if route.method != "HEAD"
        }
    found |= {(path, method) for path in ROUTES for method in ("GET", "POST")}
    told = {
        (path, method.upper())
        for path, item in document()["paths"].items()
        for method in item
        if method != "servers"
    }
    assert found == told


def test_each_path_names_the_port_it_is_on() -> None:
    told = document()
    for path, item in told["paths"].items():
        [server] = item["servers"]
        assert server["url"] == (PUBLIC if path in ROUTES else ADMIN)


def statuses(paths: Json, *, is_public: bool) -> set[str]:
    return {
        status
        for item in paths.values()
        if (item["servers"][0]["url"] == PUBLIC) is is_public
        for method, operation in item.items()
        if method != "servers"
        for status in operation["responses"]
        if status != "default"
    }


@pytest.mark.parametrize("column", [2, 3], ids=["public", "admin"])
def test_the_page_about_it_has_the_same_statuses(column: int) -> None:
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if re.match(r"\| \d{3} \|", line)]
    written = {row[1].strip() for row in rows if row[column].strip()}
    told: set[str] = set()
    for settings in SETTINGS:
        told |= statuses(document(**settings)["paths"], is_public=column == 2)
    # Of no operation: the path has no such method, or nobody looked as far as the path.
    assert written == told | (set() if column == 2 else {"405", "417"})


# What is really answered.


def too_large() -> io.BytesIO:
    return io.BytesIO(b" " * (2**20 + 1))


class Reader:
    """Asks a proxy and holds each answer to the document that it serves."""

    def __init__(self, running: Running | ProxyProcess, session: aiohttp.ClientSession) -> None:
        self.running = running
        self._session = session
        self.judge = Judge({"paths": {}})
        self.headers: dict[str, str] = {}

    async def start(self) -> None:
        url = self.running.admin_url.with_path("/admin/openapi.json")
        async with self._session.get(url, headers=self.headers) as response:
            assert response.status == 200
            self.judge = Judge(await response.json())

    async def ask(
        self, method: str, target: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON."""
        path = self.judge.path_of(target)
        [server] = self.judge.document["paths"][path]["servers"]
        data = body if isinstance(body, io.BytesIO | None) else io.BytesIO(orjson.dumps(body))
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        url = URL(server["url"] + target, encoded=True)
        async with self._session.request(
            method, url, data=data, headers=self.headers | named
        ) as response:
            came = await response.read()
            self.judge.judge(method, target, response.status, response.headers, came)
            is_json = came and response.content_type == "application/json"
            return response.status, orjson.loads(came) if is_json else None


@asynccontextmanager
async def reading(database: Path, *, token: str = "", **settings: Any) -> AsyncIterator[Reader]:
    if token:
        settings["admin_token"] = token
    async with (
        serving(database, poll_ms=1, **settings) as running,
        aiohttp.ClientSession() as session,
    ):
        await until(lambda: any(job.is_over for job in running.jobs.latest()))
        reader = Reader(running, session)
        if token:
            reader.headers = {"Authorization": f"Bearer {token}"}
        await reader.start()
        yield reader


async def test_answers_to_questions_are_as_told(tmp_path: Path) -> None:
    fields = {"cost_per_click": "spend / clicks", "fraction": "roas %"}
    shapes = {"analytics": {"fields": fields}, "dashboard": {"fields": fields}}
    async with reading(make_database(tmp_path / "tables.db"), shapes=shapes) as reader:
        for path in ROUTES:
            word = "group_by" if "analytics" in path else "hierarchy"
            for level in LEVELS:
                for breakdown in BREAKDOWNS:
                    question = {**RANGE, word: level, "breakdown": breakdown}
                    status, told = await reader.ask("POST", path, question)
                    assert status == 200
                    assert told["data"]
                    assert "cost_per_click" in told["data"][0]
            query = "start_date=2024-06-21&end_date=2024-06-30"
            for more in ("", "&include_sparkline=1", "&depth=1&include_sparkline=TRUE"):
                assert (await reader.ask("GET", f"{path}?{query}{more}"))[0] == 200
            assert (await reader.ask("HEAD", f"{path}?{query}"))[0] == 200
            assert (await reader.ask("GET", f"{path}?{query}", If_None_Match="*"))[0] == 304
            status, told = await reader.ask("POST", path, NO_ROWS, X_Request_ID="one")
            assert (status, told["data"], bool(told["metadata"]["warnings"])) == (200, [], True)
            assert (await reader.ask("POST", path, {**RANGE, "breakdown": "city"}))[0] == 400
            assert (await reader.ask("POST", path, too_large()))[0] == 413
            assert (await reader.ask("GET", f"{path}?unknown=1"))[0] == 400
            assert (await reader.ask("GET", f"{path}?a=" + "x" * 70_000))[0] == 414
            assert (await reader.ask("GET", path, X_Long="x" * 70_000))[0] == 431


async def test_answers_to_operators_are_as_told(tmp_path: Path) -> None:
    async with reading(make_database(tmp_path / "tables.db")) as reader:
        await reader.ask("POST", ANALYTICS, RANGE)
        for path in ("/health/live", "/health/ready", "/metrics", "/admin/openapi.json"):
            assert (await reader.ask("GET", path))[0] == 200
        for path in ("/console", "/console/main.js"):
            assert (await reader.ask("GET", path))[0] == 200
            assert (await reader.ask("GET", path, If_None_Match="*"))[0] == 304
        assert (await reader.ask("GET", "/console/none"))[0] == 404
        for path in (
            "cache?limit=1", "jobs", "audit", "split", "shadow", "rollout", "diffs", "overview",
            "pipeline",
        ):  # fmt: skip
            assert (await reader.ask("GET", f"/admin/{path}"))[0] == 200
        who = {"author": "anna", "reason": "to see"}
        _, told = await reader.ask("POST", "/admin/warm", {"queries": [RANGE], **who})
        assert (await reader.ask("GET", f"/admin/jobs/{told['job_id']}"))[0] == 200
        assert (await reader.ask("GET", "/admin/jobs/none"))[0] == 404
        assert (await reader.ask("GET", "/admin/diffs/none"))[0] == 404
        assert (await reader.ask("GET", "/admin/contract"))[0] == 200
        for query in ("", "&hierarchy=ad", "&group_by=ad", "&shape=analytics"):
            target = f"/admin/explain?start_date=2024-06-21&end_date=2024-06-30{query}"
            assert (await reader.ask("GET", target))[0] == 200
        assert (await reader.ask("GET", "/admin/explain"))[0] == 400
        for purge in ({"query": RANGE}, RANGE, {"all": True}):
            assert (await reader.ask("POST", "/admin/purge", {**purge, **who}))[0] == 200
        assert (await reader.ask("POST", "/admin/purge", {"all": False}))[0] == 400
        assert (await reader.ask("POST", "/admin/purge", too_large()))[0] == 413
        assert (await reader.ask("POST", "/admin/rebuild", {"action": "end", **who}))[0] == 200
        assert (await reader.ask("POST", "/admin/split", {"percent": 50.5, **who}))[0] == 200
        assert (await reader.ask("POST", "/admin/shadow", {"rate": 0.5, **who}))[0] == 200
        assert (await reader.ask("POST", "/admin/rollback", who))[0] == 200
        assert (await reader.ask("POST", "/admin/split", {"percent": 1}))[0] == 409
        assert (await reader.ask("DELETE", "/admin/rollback"))[0] == 200
        assert (await reader.ask("DELETE", "/admin/rollback"))[0] == 409
        assert (await reader.ask("POST", "/admin/rollout", {"action": "start"}))[0] == 409
        assert (await reader.ask("GET", "/admin/status"))[0] == 200
        assert (await reader.ask("GET", "/admin/audit?limit=3"))[0] == 200
        assert (await reader.ask("GET", "/admin/jobs?limit=0"))[0] == 400
        status, _ = await reader.ask("GET", "/admin/status", Origin="https://evil.example")
        assert status == 403


async def test_answers_of_a_migration_are_as_told(tmp_path: Path) -> None:
    database = make_database(tmp_path / "tables.db")
    async with (
        TestServer(make_legacy(database, None)) as legacy,
        reading(
            database,
            token=TOKEN,
            legacy_url=str(legacy.make_url("/").origin()),
            shadow_rate=1.0,
            split_percent=50,
            rollout={"steps": (50,), "min_samples": 1},
            split={"identity": "header:X-User-Id"},
        ) as reader,
    ):
        assert (await reader.ask("POST", "/admin/rollout", {"action": "start"}))[0] == 200
        for number in range(20):
            day = {**RANGE, "start_date": str(END - timedelta(days=number % 5))}
            assert (await reader.ask("POST", ANALYTICS, day, X_User_Id=str(number)))[0] == 200
        compared = 0
        while not compared:
            _, told = await reader.ask("GET", "/admin/diffs")
            compared = told["totals"]["compared"]
        assert told["samples"]
        status, sample = await reader.ask("GET", f"/admin/diffs/{told['samples'][0]['id']}")
        assert (status, sample["control"]["success"]) == (200, True)
        for query in ("field=spend", "level=ad", "since=2024-01-01", "limit=1"):
            assert (await reader.ask("GET", f"/admin/diffs?{query}"))[0] == 200
        _, told = await reader.ask("GET", "/admin/rollout")
        assert told["evidence"] is not None
        for action in ("pause", "resume", "promote", "abort"):
            assert (await reader.ask("POST", "/admin/rollout", {"action": action}))[0] == 200
        assert (await reader.ask("POST", "/admin/rollout", {"action": "abort"}))[0] == 409
        # What the legacy answers in our place: as it is, or in our shape.
        assert (await reader.ask("POST", f"{ANALYTICS}/optimized", NO_ROWS))[0] == 200
        assert (await reader.ask("POST", "/api/dashboard/data", NO_ROWS))[0] == 200
        assert (await reader.ask("POST", ANALYTICS, {"what": 1}))[0] == 400
        assert (await reader.ask("GET", "/data?what=1"))[0] == 405
        for path in ("status", "contract"):
            assert (await reader.ask("GET", f"/admin/{path}"))[0] == 200
        reader.headers = {}
        assert (await reader.ask("GET", "/admin/status"))[0] == 401
        await legacy.close()
        assert (await reader.ask("GET", "/data?what=1"))[0] == 502


async def test_whom_the_legacy_does_not_let_in_is_told_so(tmp_path: Path) -> None:
    database = make_database(tmp_path / "tables.db")
    legacy_app = make_legacy(database, None, auth=("anna", "secret"))
    async with TestServer(legacy_app) as legacy:
        url = str(legacy.make_url("/").origin())
        async with reading(database, legacy_url=url, auth="forward") as reader:
            assert (await reader.ask("POST", "/data", RANGE))[0] == 401


async def test_answers_of_several_workers_are_as_told(tmp_path: Path) -> None:
    database = make_database(tmp_path / "tables.db")
    async with (
        ProxyProcess(database, workers=2) as proxy,
        aiohttp.ClientSession() as session,
    ):
        reader = Reader(proxy, session)
        await reader.start()
        paths = reader.judge.document["paths"]
        assert paths["/data"]["servers"][0]["url"] == str(proxy.url.origin())
        assert paths["/admin/status"]["servers"][0]["url"] == str(proxy.admin_url.origin())
        assert (await reader.ask("POST", ANALYTICS, RANGE))[0] == 200
        assert (await reader.ask("POST", "/admin/split", {"percent": 50}))[0] == 200
        status, told = await reader.ask("POST", "/admin/rebuild", {"action": "end"})
        assert (status, told["is_complete"]) == (200, True)
        for path in (
            "/health/live",
            "/health/ready",
            "/metrics",
            "/console",
            "/admin/openapi.json",
        ):
            assert (await reader.ask("GET", path))[0] == 200
        _, told = await reader.ask("GET", "/admin/status")
        assert len(told["workers"]) == 2
        for path in (
            "cache", "jobs", "audit", "split", "shadow", "rollout", "diffs", "overview", "pipeline",
            "contract", "explain?start_date=2024-06-21&end_date=2024-06-30",
        ):  # fmt: skip
            assert (await reader.ask("GET", f"/admin/{path}"))[0] == 200
        assert (await reader.ask("POST", "/admin/purge", {"all": True}))[0] == 200
        status, told = await reader.ask("POST", "/admin/warm")
        assert (status, told["is_complete"]) == (202, True)
        status, one = await reader.ask("GET", f"/admin/jobs/{told['job_id']}")
        assert (status, one["id"]) == (200, told["job_id"])
        _, told = await reader.ask("GET", "/admin/jobs")
        # What one was asked to do, the other does too.
        assert {job["worker"] for job in told["jobs"]} == {1, 2}
        assert one["worker"] in (1, 2)
        assert (await reader.ask("GET", "/admin/status"))[1]["jobs"][0]["worker"] in (1, 2)
        assert (await reader.ask("GET", "/admin/jobs/none"))[0] == 404
        # Until one answers, which takes a moment, others may be there to ask.
        assert (await reader.ask("POST", "/admin/rollback", {"author": []}))[0] == 400
        assert (await reader.ask("POST", "/admin/rollback", {"reason": "to see"}))[0] == 200
        assert (await reader.ask("DELETE", "/admin/rollback"))[0] == 200


async def test_events_are_as_told(tmp_path: Path) -> None:
    async with (
        reading(make_database(tmp_path / "tables.db")) as reader,
        aiohttp.ClientSession() as session,
    ):
        url = reader.running.admin_url.with_path("/admin/events")
        wanted = {"overview": "Overview", "pipeline": "Pipeline", "audit": "AuditEntry"}
        seen: set[str] = set()
        name = ""
        async with session.get(url) as response:
            [told] = reader.judge.document["paths"]["/admin/events"]["get"]["responses"]["200"][
                "content"
            ]
            assert (response.status, response.content_type) == (200, told)
            while seen != wanted.keys():
                word, _, text = (await response.content.readline()).decode().partition(": ")
                if word == "event":
                    name = text.strip()
                elif word == "data":
                    schema = {"$ref": f"#/components/schemas/{wanted[name]}"}
                    reader.judge.validate(schema, orjson.loads(text), name)
                    seen.add(name)
                if seen == {"overview", "pipeline"}:
                    await reader.ask("POST", "/admin/split", {"percent": 50})


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("/admin/jobs?limit={}", (1, 1000)),
        ("/admin/audit?limit={}", (1, 1000)),
        ("/admin/cache?limit={}", (1, 10_000)),
        ("/admin/diffs?limit={}", (1, 200)),
    ],
)
async def test_the_limits_told_are_the_limits_held(
    tmp_path: Path, target: str, names: tuple[int, int]
) -> None:
    least, most = names
    async with reading(make_database(tmp_path / "tables.db")) as reader:
        path = target.partition("?")[0]
        [told] = [
            parameter["schema"]
            for parameter in reader.judge.document["paths"][path]["get"]["parameters"]
            if parameter["name"] == "limit"
        ]
        assert (told["minimum"], told["maximum"]) == (least, most)
        for number, expected in ((least - 1, 400), (least, 200), (most, 200), (most + 1, 400)):
            assert (await reader.ask("GET", target.format(number)))[0] == expected


async def test_the_document_names_the_host_by_which_its_reader_came(tmp_path: Path) -> None:
    database = make_database(tmp_path / "tables.db")
    async with (
        reading(database, token=TOKEN, host="0.0.0.0") as reader,
        aiohttp.ClientSession(headers=reader.headers) as session,
    ):
        port = reader.running.url.port
        for host, public, admin in (
            ("box:9", f"http://box:{port}", "http://box:9"),
            ("", f"http://0.0.0.0:{port}", "/"),
        ):
            url = reader.running.admin_url.with_path("/admin/openapi.json")
            async with session.get(url, headers={"Host": host}) as response:
                told = await response.json()
            assert told["paths"]["/data"]["servers"][0]["url"] == public
            assert told["paths"]["/admin/status"]["servers"][0]["url"] == admin
