"""/admin/cache, /admin/purge and /admin/explain: what is held, let go of it, what would happen."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from proxy.audit import Audit
from proxy.cache.store import Listed, Purged
from proxy.canonical import Limits, canonicalize, parse_query_string
from proxy.clock import Clock
from proxy.errors import RequestError
from proxy.explaining import Explainer, Explanation
from proxy.freshness import Verdict, Watermark, judge
from proxy.handlers.admin_request import limit_of, questions_of, read_asked, respond
from proxy.query import Query

IsMeant = Callable[[Query | None], bool]


class PurgeableStore(Protocol):
    async def listed(self, limit: int) -> list[Listed]: ...

    async def purge(self, is_meant: IsMeant) -> Purged: ...


class AdminCache:
    """`believed` is a question's watermark as last known, `before_purge` ends what is under way."""

    def __init__(
        self,
        store: PurgeableStore,
        explainer: Explainer,
        audit: Audit,
        clock: Clock,
        limits: Limits,
        *,
        believed: Callable[[Query], Watermark | None],
        before_purge: Callable[[], None],
    ) -> None:
        self._store = store
        self._explainer = explainer
        self._audit = audit
        self._clock = clock
        self._limits = limits
        self._believed = believed
        self._before_purge = before_purge

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/cache", self._list),
            web.post("/purge", self._purge),
            web.get("/explain", self._explain),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=10_000)
        found = await self._store.listed(limit)
        return respond({"entries": [self._listed(one) for one in found]})

    def _listed(self, one: Listed) -> dict[str, Any]:
        asked: object = one.question if one.query is None else one.query.as_parameters()
        return {
            "key": one.key,
            "query": asked,
            "shape": None if one.query is None else one.query.shape,
            "bytes": one.bytes,
            "age_s": round(max(0.0, self._clock.now() - one.stored_at), 3),
            "hits": one.uses,
            "tier": one.tier,
            "is_fresh": self._is_fresh(one),
        }

    def _is_fresh(self, one: Listed) -> bool | None:
        """By what was last known, without a look; None where that cannot be told."""
        known = None if one.query is None else self._believed(one.query)
        return None if known is None else judge(one.watermark, known) is Verdict.FRESH

    async def _purge(self, request: web.Request) -> web.Response:
        asked = await read_asked(request, {"all", "query", "start_date", "end_date"})
        is_meant = what_is_meant(asked.fields, self._limits)
        # First: what is being loaded was begun before the purge, whenever it ends.
        self._before_purge()
        purged = await self._store.purge(is_meant)
        after = {"purged": purged.count, "is_complete": purged.is_complete}
        self._audit.note(
            "purge",
            author=asked.author,
            reason=asked.reason,
            before=dict(asked.fields),
            after=after,
        )
        return respond(after)

    async def _explain(self, request: web.Request) -> web.Response:
        _, _, query_string = request.raw_path.partition("?")
        queries = questions_of(dict(parse_query_string(query_string)), self._limits)
        return respond(_as_json(await self._explainer.explain(queries[0]), self._clock.now()))


def what_is_meant(fields: Mapping[str, Any], limits: Limits) -> IsMeant:
    """Which entries a purge is for. Raises RequestError.

    A range means what was computed from any of its dates. Answers of legacy
    routes do not say from which: they are meant too.
    """
    match fields:
        case {"all": True, **rest} if not rest:
            return lambda query: True
        case {"query": raw, **rest} if not rest:
            meant = frozenset(questions_of(raw, limits))
            return lambda query: query in meant
        case {"start_date": _, "end_date": _, **rest} if not rest:
            # Any number of days: a purge of all of history is nothing unusual.
            dates = canonicalize("dashboard", fields, Limits(max_range_days=10**9))
            return lambda query: (
                query is None or (query.window_start <= dates.end and query.end >= dates.start)
            )
    raise RequestError('Invalid purge. Must be {"all": true}, {"query": {…}} or both dates')


def _as_json(told: Explanation, now: float) -> dict[str, Any]:
    reading, found = told.reading, told.found
    watermark = None
    if reading is not None:
        mark = reading.watermark
        watermark = {"token": mark.token, "computed_at": mark.computed_at}
    return {
        "query": told.query.as_parameters(),
        "shape": told.query.shape,
        "key": told.key,
        "watermark": watermark,
        "is_rebuilding": reading is not None and reading.is_rebuilding,
        "held": found is not None,
        "tier": None if found is None else found.tier,
        "age_s": None if found is None else round(max(0.0, now - found.entry.stored_at), 3),
        "cost_ms": None if found is None else round(found.entry.cost_ms, 3),
        "fresh": told.is_fresh,
        "side": told.side,
        "split_percent": told.split_percent,
    }
