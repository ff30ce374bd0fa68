"""Which content coding a caller takes, and whether it has the bytes already. Pure."""

from collections.abc import Sequence

CODINGS = ("zstd", "gzip")
"""Ours, best first."""


def choose_coding(accept_encoding: str, available: Sequence[str] = CODINGS) -> str | None:
    """The coding to send: the caller's highest weight, of equals our best. None: as it is."""
    weights = _weights(accept_encoding)
    wanted = [
        (weights.get(coding, weights.get("*", 0.0)), -place, coding)
        for place, coding in enumerate(available)
    ]
    weight, _, coding = max(wanted, default=(0.0, 0, ""))
    if weight <= 0 or weight < weights.get("identity", 0.0):
        return None
    return coding


def etag_of(etag: str, coding: str | None) -> str:
    """A strong validator differs between encodings of one body (RFC 9110, 8.8.3.3)."""
    return etag if coding is None else f'{etag[:-1]}-{coding}"'


def has_already(if_none_match: str, etag: str) -> bool:
    """Whether one of the caller's tags names this body, in whatever encoding it got it."""
    if if_none_match.strip() == "*":
        return True
    same = {etag, *(etag_of(etag, coding) for coding in CODINGS)}
    return any(tag.strip().removeprefix("W/") in same for tag in if_none_match.split(","))


def _weights(accept_encoding: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        coding, _, parameters = part.partition(";")
        name = coding.strip().lower()
        if name:
            weights["gzip" if name == "x-gzip" else name] = _weight(parameters)
    return weights


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return max(0.0, min(1.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
