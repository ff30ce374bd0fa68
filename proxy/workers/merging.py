"""What several workers say of themselves in /admin, as one. JSON values in and out. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

Told = Mapping[str, Any]

JOBS_SHOWN = 5

_SAME_ACT_S = 10.0
"""What an operator did once, all workers note within this time."""


def merged_status(parts: Mapping[int, Told], more: Told) -> dict[str, Any]:
    """That of the first of `parts`, with what the caches hold added up and the newest jobs of
    all. `more` wins. Parts go by the number of their worker."""
    lead = next(iter(parts.values()))
    jobs = {number: part["jobs"] for number, part in parts.items()}
    return {
        **lead,
        "cache": _added([part["cache"] for part in parts.values()]),
        "jobs": merged_jobs(jobs, JOBS_SHOWN),
        **more,
    }


def merged_purge(lead: Told, others: Sequence[Told | None]) -> dict[str, Any]:
    """None: a worker that did not answer. What it held may still be there."""
    told = [lead, *(other for other in others if other is not None)]
    return {
        **lead,
        "purged": sum(one["purged"] for one in told),
        "is_complete": all(one["is_complete"] for one in told) and None not in others,
    }


def merged_entries(parts: Iterable[Sequence[Told]], limit: int) -> list[dict[str, Any]]:
    """Entries that several workers hold in memory are one; how often each gave it adds up."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        for entry in part:
            place = (entry["tier"], entry["key"])
            known = found.get(place)
            if known is None:
                found[place] = {**entry, "workers": 1}
                continue
            known["workers"] += 1
            known["hits"] += entry["hits"]
            known["age_s"] = min(known["age_s"], entry["age_s"])
            known["is_fresh"] = known["is_fresh"] or entry["is_fresh"]
    return list(found.values())[:limit]


def merged_jobs(parts: Mapping[int, Sequence[Told]], limit: int) -> list[dict[str, Any]]:
    """The newest first, each with its `worker`: what waits, then by when it began."""
    jobs = [{**job, "worker": number} for number, told in parts.items() for job in told]
    # Those of one worker that cannot be told apart stay in its own order.
    return sorted(jobs, key=_begun, reverse=True)[:limit]


def merged_audit(parts: Mapping[int, Sequence[Told]], limit: int) -> list[Told]:
    """What was done, the newest first; `parts` are the lists of each worker, likewise.

    What was asked of all workers stands in the list of each: it was done once. So
    entries that say the same and came at about the same time, each from another
    worker, are one.
    """
    acts: dict[bytes, list[tuple[float, int, Told]]] = defaultdict(list)
    for number, entries in parts.items():
        # No act stands twice in one list: what is not among its newest is not wanted.
        for entry in entries[:limit]:
            same = orjson.dumps([entry[name] for name in ("author", "action", "before", "reason")])
            acts[same].append((_seconds(entry["at"]), number, entry))
    kept: list[tuple[float, Told]] = []
    for noted in acts.values():
        noted.sort(key=lambda one: one[:2])
        open_acts: deque[tuple[float, set[int]]] = deque()
        for at, number, entry in noted:
            while open_acts and at - open_acts[0][0] > _SAME_ACT_S:
                open_acts.popleft()
            for _, by in open_acts:
                if number not in by:
                    by.add(number)
                    break
            else:
                open_acts.append((at, {number}))
                kept.append((at, entry))
    kept.sort(key=lambda one: one[0], reverse=True)
    return [entry for _, entry in kept[:limit]]


def _begun(job: Told) -> tuple[bool, str]:
    # One that was cancelled before it began has only an end.
    at = job["started_at"] or job["finished_at"]
    return at is None, at or ""


def _added(parts: Sequence[Told]) -> dict[str, Any]:
    return {
        name: sum(part[name] for part in parts)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for name, value in parts[0].items()
    }


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
