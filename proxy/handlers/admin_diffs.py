"""/admin/diffs and /admin/contract: what came of comparing both sides, and the samples of it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date
from typing import Any, Protocol

import orjson
from aiohttp import web

from proxy.errors import RequestError, StoreError
from proxy.handlers.admin_access import failure
from proxy.handlers.admin_request import instant, limit_of, respond
from proxy.query import LEVELS
from proxy.rollout.ledger import Ledger, Sample, SampleHead
from proxy.rollout.sample_codec import DAMAGED, difference_as_json, unpacked
from proxy.rollout.summary import days_of, fields_of, levels_of, rates_of, reasons_of, totals_of
from proxy.rollout.tallies import sum_of

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KNOWN = ("limit", "field", "level", "since")
LONGEST_FIELD = 100
_MOST_FOR_CONTRACT = 20
_MOST_CONTRACT_BYTES = 16 * 2**20
"""Of JSON, both sides together: parsed it takes ten times as much."""

Pair = tuple[object, object]
"""The legacy's document and ours, of one question."""


class Proposal(Protocol):
    def as_toml(self) -> str: ...


class AdminDiffs:
    """`flush` writes what is noted in this process, so that it is read too.

    `propose` says what our shape lacks; it takes time and runs in a thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        flush: Callable[[], Awaitable[None]],
        propose: Callable[[Sequence[Pair]], Proposal],
    ) -> None:
        self._ledger = ledger
        self._flush = flush
        self._propose = propose

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/diffs", self._list),
            web.get("/diffs/{id}", self._one),
            web.get("/contract", self._contract),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=20, most=200)
        field, level, since = _field(request), _level(request), _since(request)
        _refuse_unknown(request, _KNOWN)
        await self._write()
        try:
            days = await self._ledger.tallies(since)
            heads = await self._ledger.heads()
        except StoreError as error:
            return failure(503, f"the ledger cannot be read: {error}")
        tally = sum_of(days.values())
        wanted = [
            head
            for head in heads
            if (since is None or head.day >= since) and _is_about(head, field, level)
        ]
        return respond(
            {
                "since": since,
                "totals": totals_of(tally),
                "reasons": reasons_of(tally),
                "fields": [asdict(one) for one in fields_of(tally, field=field, level=level)],
                "by_level": [one for one in levels_of(tally) if level in (None, one["level"])],
                "by_day": days_of(days),
                "samples": [_head_as_json(head) for head in wanted[:limit]],
            }
        )

    async def _one(self, request: web.Request) -> web.Response:
        await self._write()
        try:
            sample = await self._ledger.sample(request.match_info["id"])
        except StoreError as error:
            return failure(503, f"the ledger cannot be read: {error}")
        if sample is None:
            return failure(404, "no such sample: it never was, or newer ones took its place")
        return respond(await asyncio.to_thread(_sample_as_json, sample))

    async def _contract(self, request: web.Request) -> web.Response:
        _refuse_unknown(request, ())
        await self._write()
        try:
            rates = rates_of(sum_of((await self._ledger.tallies()).values()))
            samples = await self._with_bodies()
        except StoreError as error:
            return failure(503, f"the ledger cannot be read: {error}")
        toml = await asyncio.to_thread(self._toml, samples)
        return respond(
            {
                "samples": len(samples),
                "toml": toml,
                "rate_modes": [asdict(one) | {"closer": one.closer} for one in rates],
            }
        )

    async def _write(self) -> None:
        # It is tried again anyhow. What is in the ledger can still be shown.
        with suppress(StoreError):
            await self._flush()

    async def _with_bodies(self) -> list[Sample]:
        found: list[Sample] = []
        for head in [head for head in await self._ledger.heads() if not head.note]:
            sample = await self._ledger.sample(head.id)
            if sample is not None and sample.control and sample.candidate:
                found.append(sample)
            if len(found) == _MOST_FOR_CONTRACT:
                break
        return found

    def _toml(self, samples: Sequence[Sample]) -> str:
        pairs: list[Pair] = []
        held = 0
        for sample in samples:
            try:
                control, candidate = unpacked(sample.control), unpacked(sample.candidate)
            except ValueError:
                continue
            held += len(control) + len(candidate)
            if pairs and held > _MOST_CONTRACT_BYTES:
                break
            pair = (orjson.loads(control), orjson.loads(candidate))
            is_legacy = sample.head.control_side == "legacy"
            pairs.append(pair if is_legacy else (pair[1], pair[0]))
        return self._propose(pairs).as_toml()


def _head_as_json(head: SampleHead) -> dict[str, Any]:
    return {
        "id": head.id,
        "at": instant(head.at),
        "query": head.query,
        "outcome": head.outcome,
        "control_side": head.control_side,
        "differences": len(head.differences),
    }


def _sample_as_json(sample: Sample) -> dict[str, Any]:
    head, bodies = sample.head, [sample.control, sample.candidate]
    documents: list[orjson.Fragment | None] = [None, None]
    if all(bodies):
        try:
            documents = [orjson.Fragment(unpacked(body)) for body in bodies]
        except ValueError:
            head = replace(head, note=DAMAGED)
    return {
        **_head_as_json(head),
        "rows": head.rows,
        "note": head.note,
        "control": documents[0],
        "candidate": documents[1],
        "differences": [difference_as_json(one) for one in head.differences],
    }


def _is_about(head: SampleHead, field: str | None, level: str | None) -> bool:
    """Whether it has a difference in `field` at `level`; without both, any sample is meant."""
    if field is None and level is None:
        return True
    return any(
        field in (None, one.field) and level in (None, one.level) for one in head.differences
    )


def _refuse_unknown(request: web.Request, known: Sequence[str]) -> None:
    for name in request.query:
        if name not in known:
            raise RequestError(f"Unknown parameter {name[:40]!a}. Known are: {list(known)}")


def _field(request: web.Request) -> str | None:
    field = request.query.get("field")
    if field is not None and not 0 < len(field) <= LONGEST_FIELD:
        raise RequestError(
            f"Invalid field parameter. Must be a field's name, of at most {LONGEST_FIELD}"
        )
    return field


def _level(request: web.Request) -> str | None:
    level = request.query.get("level")
    if level is not None and level not in LEVELS:
        raise RequestError(f"Invalid level parameter. Must be one of: {list(LEVELS)}")
    return level


def _since(request: web.Request) -> str | None:
    """A day in UTC: counts are kept by day."""
    text = request.query.get("since")
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError("not in that form")
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise RequestError(
            "Invalid since parameter. Must be a day (UTC) that exists, as YYYY-MM-DD"
        ) from error
