"""What the legacy says of a caller: let in, refused in its own words, or nothing. Pure."""

from dataclasses import dataclass

from proxy.errors import BackendError, BackendUnavailable, ProxyError

REFUSALS = frozenset({401, 403})
"""Statuses that say no."""

_SICK = frozenset({502, 503, 504})
"""Statuses of an application that is down, whoever is asked about."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The legacy's refusal as far as it is handed on. An empty body: it had none, or too much."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class RefusedError(ProxyError):
    """The legacy does not let this caller in."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"the legacy application refuses with {refusal.status}")
        self.refusal = refusal


def is_let_in(status: int) -> bool:
    """The verdict that a status is. BackendError for one that is none, by its kind why."""
    if 200 <= status < 300:
        return True
    if status in REFUSALS:
        return False
    kind = BackendUnavailable if status in _SICK else BackendError
    raise kind(
        "the legacy application did not say whether the caller is let in: "
        f"it answered {status}, and PROXY_AUTH_URL has to answer 2xx, 401 or 403",
        reason="no_verdict",
    )
