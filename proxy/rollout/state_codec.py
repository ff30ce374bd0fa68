"""MigrationState as JSON, the way it is kept. The form carries a version of its own.

Processes of several versions share one state. A version that adds a register
puts it under `more`, as name -> [[version, at, author, reason], value]: those
before it carry that along, merge it by its stamp and leave it as it is. All
else in the form stays as it is, for equal states have to have equal tags in
every version. What cannot be told so needs another FORM and another name in
Redis, where the versions before do not look; what they can understand, a
rollback above all, is then written to both.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, get_args

import orjson

from proxy.rollout.registers import Register
from proxy.rollout.state import (
    Change,
    MigrationState,
    Rollout,
    RolloutState,
    Stamp,
    Verdict,
)

FORM = 1
_LONGEST_MORE = 64 * 1024


class NewerFormError(ValueError):
    """Written by a newer version of the proxy: what it means is not known here."""


def to_json(state: MigrationState) -> bytes:
    """Equal states give equal bytes, whether a number came as 25 or as 25.0."""
    since = state.kept_rollout.since
    baseline = sorted(state.kept_rollout.baseline.items())
    more = {"more": _more(state.more)} if state.more else {}
    return orjson.dumps(
        {
            "form": FORM,
            "version": state.version,
            "percent": float(state.percent),
            "shadow_rate": float(state.shadow_rate),
            "split_stamp": _stamp(state.split_stamp),
            "shadow_stamp": _stamp(state.shadow_stamp),
            "rollout_stamp": _stamp(state.rollout_stamp),
            "raises": [_stamp(raised) for raised in sorted(state.raises)],
            "lifts": [[version, float(at)] for version, at in sorted(state.lifts)],
            "history": [_change(change) for change in state.history],
            "rollout": {
                "state": state.kept_rollout.state,
                "step": state.kept_rollout.step,
                "since": None if since is None else float(since),
                "verdict": state.kept_rollout.verdict,
                "reason": state.kept_rollout.reason,
                "baseline": {name: float(value) for name, value in baseline},
                "history": [_change(change) for change in state.kept_rollout.history],
            },
        }
        | more
    )


def from_json(body: bytes) -> MigrationState:
    """Raises ValueError for anything that `to_json` did not make, NewerFormError for a later form.

    What is read here decides where traffic goes: nothing is guessed.
    """
    try:
        raw = orjson.loads(body)
        if (
            isinstance(raw, dict)
            and isinstance(raw.get("form"), int | float)
            and raw["form"] > FORM
        ):
            raise NewerFormError(f"form {raw['form']}; this one knows up to {FORM}")
        if raw["form"] != FORM:
            raise ValueError(f"form {raw['form']!r}")
        return _state(raw)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"no state of a migration: {error!r}") from error


def tag_of(state: MigrationState) -> str:
    """Differs between states that differ, also where their versions are the same."""
    return f"{state.version}:{hashlib.blake2b(to_json(state), digest_size=12).hexdigest()}"


def version_of(tag: str) -> int:
    """0 for what is no tag."""
    number = tag.partition(":")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


def _state(raw: Mapping[str, Any]) -> MigrationState:
    return MigrationState(
        percent=_number(raw["percent"], 0, 100),
        shadow_rate=_number(raw["shadow_rate"], 0, 1),
        kept_rollout=_rollout(raw["rollout"]),
        split_stamp=_to_stamp(raw["split_stamp"]),
        shadow_stamp=_to_stamp(raw["shadow_stamp"]),
        rollout_stamp=_to_stamp(raw["rollout_stamp"]),
        raises=frozenset(_to_stamp(raised) for raised in raw["raises"]),
        lifts=frozenset((_whole(version), _number(at)) for version, at in raw["lifts"]),
        history=tuple(_to_change(change) for change in raw["history"]),
        version=_whole(raw["version"]),
        more=_to_more(raw.get("more", {})),
    )


def _rollout(raw: Mapping[str, Any]) -> Rollout:
    state: RolloutState = raw["state"]
    verdict: Verdict = raw["verdict"]
    if state not in get_args(RolloutState) or verdict not in get_args(Verdict):
        raise ValueError(f"rollout {state!r}, verdict {verdict!r}")
    return Rollout(
        state=state,
        step=_whole(raw["step"]),
        since=None if raw["since"] is None else _number(raw["since"]),
        verdict=verdict,
        reason=_text(raw["reason"]),
        baseline={_text(name): _number(value) for name, value in raw["baseline"].items()},
        history=tuple(_to_change(change) for change in raw["history"]),
    )


def _stamp(stamp: Stamp) -> list[object]:
    return [stamp.version, float(stamp.at), stamp.author, stamp.reason]


def _to_stamp(raw: Any) -> Stamp:
    version, at, author, reason = raw
    return Stamp(_whole(version), _number(at), _text(author), _text(reason))


def _more(more: Mapping[str, Register]) -> dict[str, object]:
    return {
        name: [[one.version, one.at, one.author, one.reason], orjson.loads(one.value)]
        for name, one in sorted(more.items())
    }


def _to_more(raw: Any) -> dict[str, Register]:
    if len(orjson.dumps(raw)) > _LONGEST_MORE:
        raise ValueError("more than any version has added")
    return {_text(name): _register(*one) for name, one in raw.items()}


def _register(stamp: Any, value: Any) -> Register:
    at = _to_stamp(stamp)
    # In one form only, for registers are compared by their bytes.
    kept = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return Register(at.version, at.at, at.author, at.reason, kept)


def _change(change: Change) -> list[object]:
    return [
        float(change.at),
        change.author,
        change.action,
        float(change.percent),
        change.reason,
        change.version,
    ]


def _to_change(raw: Any) -> Change:
    at, author, action, percent, reason, version = raw
    return Change(
        _number(at),
        _text(author),
        _text(action),
        _number(percent, 0, 100),
        _text(reason),
        _whole(version),
    )


def _number(raw: Any, low: float = float("-inf"), high: float = float("inf")) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
        raise ValueError(f"no number from {low} to {high}: {raw!r}")
    return float(raw)


def _whole(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 0:
        raise ValueError(f"no whole number: {raw!r}")
    return raw


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"no text: {raw!r}")
    return raw
