"""The headers `traceparent` and `tracestate` of W3C Trace Context. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

PARENT = "traceparent"
STATE = "tracestate"
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_LONGEST_PARENT = 512
_LONGEST_STATE = 512
_MOST_MEMBERS = 32
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_*/-]{0,255}(?:@[a-z][a-z0-9_*/-]{0,13})?"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class Headers(Protocol):
    """A request's headers: several of one name may be there."""

    def getall(self, key: str, default: tuple[str, ...]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A place in somebody else's trace. `text` is the header as it came."""

    trace_id: str
    span_id: str
    flags: int
    text: str
    state: str = ""

    @property
    def is_ours(self) -> bool:
        """No span of ours stands here."""
        return False

    def headers(self) -> Mapping[str, str]:
        return {PARENT: self.text, STATE: self.state} if self.state else {PARENT: self.text}


def parse_parent(headers: Headers) -> TraceParent | None:
    """The caller's place, None where it names none or breaks the syntax (§3.2).

    A version that is not known yet is read as far as it is like version 00. A
    `tracestate` that breaks the syntax is left out, as §3.3 allows.
    """
    texts = headers.getall(PARENT, ())
    if len(texts) != 1 or len(texts[0]) > _LONGEST_PARENT:
        return None
    found = _PARENT.fullmatch(texts[0])
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, int(flags, 16), texts[0], _state(headers))


def _state(headers: Headers) -> str:
    state = ",".join(headers.getall(STATE, ()))
    if len(state) > _LONGEST_STATE:
        return ""
    members = [member.strip(" \t") for member in state.split(",")]
    present = [member for member in members if member]
    if len(present) > _MOST_MEMBERS or not all(map(_MEMBER.fullmatch, present)):
        return ""
    return ",".join(present)
