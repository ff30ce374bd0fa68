"""Which side a caller is on. Pure: the same caller is always on the same side."""

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal

import xxhash

Variant = Literal["legacy", "optimized"]

BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Split:
    """Deals callers to the two sides: `percent` of them to the optimized one.

    A caller's bucket comes from a salted hash of its identity, so a higher
    percent moves callers one way only. `identity` names where that is found
    (`cookie:NAME`, `header:NAME`, `authorization`, `address`); a caller
    without it is told by its credentials, else by its address.
    """

    percent: float = 100.0
    identity: str | None = None
    salt: str = ""

    def variant(self, headers: Mapping[str, str], address: str) -> Variant:
        if self.percent >= 100:
            return "optimized"
        identity = self._identity(headers)
        return self.variant_of(address if identity is None else identity)

    def variant_of(self, identity: str) -> Variant:
        digest = xxhash.xxh3_64_intdigest(f"{self.salt}\0{identity}".encode(errors="replace"))
        return "optimized" if digest % BUCKETS < self.percent * BUCKETS / 100 else "legacy"

    def is_told_by_headers(self, headers: Mapping[str, str]) -> bool:
        """Whether two requests with these headers are on one side whatever their address."""
        return self.percent >= 100 or self.percent <= 0 or self._identity(headers) is not None

    def _identity(self, headers: Mapping[str, str]) -> str | None:
        if self.identity == "address":
            return None
        kind, _, name = (self.identity or "").partition(":")
        found: str | None = None
        if kind == "header":
            found = headers.get(name)
        elif kind == "cookie":
            found = _cookie(headers.get("Cookie", ""), name)
        return found or headers.get("Authorization") or None


def _cookie(header: str, name: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if morsel is None else morsel.value
