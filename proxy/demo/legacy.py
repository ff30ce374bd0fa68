"""The demo's legacy application: slow, independent numbers, and the habits of a real one.

Run it by itself with `python -m proxy.demo.legacy --help`.
"""

import asyncio
import base64
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from aiohttp import web

from proxy.clock import Clock, SystemClock
from proxy.demo import charts
from proxy.demo.fields import Json, Record
from proxy.demo.misbehaviour import Misbehaviour, parse_misbehaviour, spoil
from proxy.demo.question import Question, parse_date, parse_object, parse_question
from proxy.demo.records import compute, open_readonly
from proxy.demo.socket_io import SocketIo
from proxy.errors import RequestError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/api/dashboard/analytics"
CORS = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
    "Access-Control-Max-Age": "600",
}


class Legacy:
    """State and handlers of one application. `misbehaviour` may be changed at any time.

    `requests` counts by path what came in; the `/__demo` routes are not counted.
    """

    def __init__(
        self,
        database: Path,
        meta_database: Path | None,
        *,
        clock: Clock,
        auth: tuple[str, str] | None,
        seed: int,
        poll_hold_s: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.misbehaviour = Misbehaviour()
        self.requests: Counter[str] = Counter()
        self._database = database
        self._meta_database = meta_database
        self._clock = clock
        self._rng = Random(seed)
        self._sleep = sleep
        self._socket_io = SocketIo(hold_s=poll_hold_s)
        self._stopping = threading.Event()
        self._authorization = None
        if auth is not None:
            token = base64.b64encode(":".join(auth).encode()).decode()
            self._authorization = f"Basic {token}"

    @property
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/static/dashboard.js", self._script),
            web.post(f"{API}/data", self._analytics_data),
            web.get(f"{API}/date-range", self._date_range),
            web.get(f"{API}/overview-roas-chart", self._roas_chart),
            web.post(f"{API}/segments", self._segments),
            web.get(f"{API}/user-details-tooltip", self._user_ids),
            web.post(f"{API}/chart-data", self._entity_chart),
            web.get("/api/running", self._running),
            web.get("/api/pipelines", self._pipelines),
            web.get("/socket.io/", self._socket_io.get),
            web.post("/socket.io/", self._socket_io.post),
            web.options("/{path:.*}", self._options),
            web.get("/__demo/requests", self._show_requests),
            web.delete("/__demo/requests", self._forget_requests),
            web.get("/__demo/misbehave", self._show_misbehaviour),
            web.post("/__demo/misbehave", self._misbehave),
        ]

    async def _analytics_data(self, request: web.Request) -> web.Response:
        how = self.misbehaviour
        if how.slow_s:
            await self._sleep(how.slow_s)
        if self._rng.random() < how.error_rate:
            return _json({"success": False, "error": "made to fail"}, status=how.error_status)
        question = parse_question(await request.read())
        try:
            computed = await asyncio.to_thread(self._compute, question)
        except sqlite3.Error:
            return _json({"success": True, "data": []})
        except InterruptedError:
            return _json({"success": False, "error": "shutting down"}, status=503)
        data: list[Json] = [*spoil(computed, how, self._rng)]
        metadata: Record = {
            "data_source": "legacy",
            "date_range": f"{question.start} to {question.end}",
            "generated_at": self._now().isoformat(timespec="microseconds"),
            "query_config": {
                "breakdown": question.breakdown,
                "end_date": str(question.end),
                "group_by": question.level,
                "start_date": str(question.start),
            },
            "record_count": len(data),
        }
        return _json({"success": True, "data": data, "metadata": metadata})

    def _compute(self, question: Question) -> list[Record]:
        return compute(
            self._database, self._meta_database, question, is_stopping=self._stopping.is_set
        )

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=_file("page.html"), content_type="text/html")

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=_file("dashboard.js"), content_type="text/javascript")

    async def _date_range(self, request: web.Request) -> web.Response:
        return await self._ask(lambda db: charts.date_range(db, self._now().date()))

    async def _roas_chart(self, request: web.Request) -> web.Response:
        asked = dict[str, object](request.query)
        start = parse_date(asked, "start_date") if "start_date" in asked else None
        end = parse_date(asked, "end_date") if "end_date" in asked else None
        return await self._ask(lambda db: charts.roas_chart(db, start, end))

    async def _segments(self, request: web.Request) -> web.Response:
        start, end = _range(parse_object(await request.read()))
        return await self._ask(lambda db: charts.segments(db, start, end))

    async def _user_ids(self, request: web.Request) -> web.Response:
        asked = dict[str, object](request.query)
        (level, entity_id), (start, end) = _entity(asked), _range(asked)
        return await self._ask(lambda db: charts.user_ids(db, level, entity_id, start, end))

    async def _entity_chart(self, request: web.Request) -> web.Response:
        asked = parse_object(await request.read())
        (level, entity_id), (start, end) = _entity(asked), _range(asked)
        return await self._ask(lambda db: charts.entity_chart(db, level, entity_id, start, end))

    async def _running(self, request: web.Request) -> web.Response:
        return _json({"running": []})

    async def _pipelines(self, request: web.Request) -> web.Response:
        return await self._ask(charts.last_run)

    async def _options(self, request: web.Request) -> web.Response:
        return web.Response(headers={"Allow": PREFLIGHT["Access-Control-Allow-Methods"]})

    async def _show_requests(self, request: web.Request) -> web.Response:
        return _json({**self.requests})

    async def _forget_requests(self, request: web.Request) -> web.Response:
        self.requests.clear()
        return _json({})

    async def _show_misbehaviour(self, request: web.Request) -> web.Response:
        return _json(_as_json(self.misbehaviour))

    async def _misbehave(self, request: web.Request) -> web.Response:
        try:
            self.misbehaviour = parse_misbehaviour(json.loads(await request.read()))
        except ValueError as error:
            return _json({"success": False, "error": str(error)}, status=400)
        return _json(_as_json(self.misbehaviour))

    async def _ask(self, question: Callable[[sqlite3.Connection], Json]) -> web.Response:
        """Answer from the database, in a thread; its errors look like no data."""

        def ask() -> Json:
            with closing(open_readonly(self._database)) as db:
                return question(db)

        try:
            return _json({"success": True, "data": await asyncio.to_thread(ask)})
        except sqlite3.Error:
            return _json({"success": True, "data": []})

    @web.middleware
    async def observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count the request, keep pages to those who may see them, and refuse as JSON."""
        if not request.path.startswith("/__demo/"):
            self.requests[request.path] += 1
        is_page = request.path == "/"
        if is_page and self._authorization not in (None, request.headers.get("Authorization")):
            realm = {"WWW-Authenticate": 'Basic realm="dashboard"'}
            return web.Response(status=401, text="Log in first.", headers=realm)
        try:
            return await handler(request)
        except RequestError as error:
            return _json({"success": False, "error": str(error)}, status=400)

    async def allow_origins(self, request: web.Request, response: web.StreamResponse) -> None:
        if request.path.startswith("/api/"):
            response.headers.update(CORS)
            if request.method == "OPTIONS":
                response.headers.update(PREFLIGHT)

    async def stop(self, app: web.Application) -> None:
        """Give up the work in the threads and let those go who wait for a message."""
        self._stopping.set()
        await self._socket_io.close()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def __repr__(self) -> str:
        return f"<Legacy {self._database.name} requests={self.requests.total()}>"


LEGACY = web.AppKey("legacy", Legacy)


def make_legacy(
    database: Path,
    meta_database: Path | None,
    *,
    clock: Clock | None = None,
    auth: tuple[str, str] | None = None,
    seed: int = 1,
    poll_hold_s: float = 20.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> web.Application:
    """The application; its state is at `app[LEGACY]`. `auth`: user and password of the pages."""
    legacy = Legacy(
        database,
        meta_database,
        clock=clock or SystemClock(),
        auth=auth,
        seed=seed,
        poll_hold_s=poll_hold_s,
        sleep=sleep,
    )
    app = web.Application(middlewares=[legacy.observe])
    app[LEGACY] = legacy
    app.add_routes(legacy.routes)
    app.on_response_prepare.append(legacy.allow_origins)
    app.on_shutdown.append(legacy.stop)
    return app


def _json(value: Json, *, status: int = 200) -> web.Response:
    """Compact, with sorted keys, as that application's framework writes it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def _as_json(how: Misbehaviour) -> Json:
    return {name: getattr(how, name) for name in Misbehaviour.__dataclass_fields__}


def _file(name: str) -> str:
    return files("proxy.demo").joinpath(name).read_text(encoding="utf-8")


def _range(asked: dict[str, object]) -> tuple[date, date]:
    return parse_date(asked, "start_date"), parse_date(asked, "end_date")


def _entity(asked: dict[str, object]) -> tuple[str, str]:
    for name in ("entity_type", "entity_id"):
        if not isinstance(asked.get(name), str):
            raise RequestError(f"Missing required parameter: {name}")
    return str(asked["entity_type"]), str(asked["entity_id"])


def serve(
    database: Annotated[Path, typer.Option(help="The pre-computed tables.")],
    meta_database: Annotated[Path | None, typer.Option(help="The Meta database.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
    auth: Annotated[str, typer.Option(help="user:password that pages ask for.")] = "",
) -> None:
    """Run the demo's legacy application until interrupted."""
    user, colon, password = auth.partition(":")
    app = make_legacy(database, meta_database, auth=(user, password) if colon else None)
    web.run_app(app, host=host, port=port, print=None, access_log=None)


if __name__ == "__main__":
    typer.run(serve)
