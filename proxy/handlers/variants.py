"""Who answers a caller of the split route: the dealt side, or the one that a tester asks for."""

import hmac
from collections.abc import Callable, Mapping

from proxy.rollout.split import Split, Variant

ASKED = "X-Dashboard-Variant"
TOKEN = "X-Dashboard-Token"


class Variants:
    """Decides by the split of the moment, so that a change counts from the next request on.

    A side asked for with the admin token is always given. `allow_override`
    lets anybody ask, but not while rolled back: then all goes to the legacy.
    What is no side is overlooked. Without a legacy all is answered by us.
    """

    def __init__(
        self,
        split: Callable[[], Split],
        is_rolled_back: Callable[[], bool] = lambda: False,
        *,
        has_legacy: bool,
        allow_override: bool = False,
        admin_token: str | None = None,
    ) -> None:
        self._split = split
        self._is_rolled_back = is_rolled_back
        self._has_legacy = has_legacy
        self._allow_override = allow_override
        self._admin_token = None if admin_token is None else admin_token.encode()

    def side(self, headers: Mapping[str, str], address: str) -> Variant:
        if not self._has_legacy:
            return "optimized"
        return self._forced(headers) or self._split().variant(headers, address)

    def is_ours_by_its_bytes(self, headers: Mapping[str, str], address: str) -> bool:
        """Whether any request with these headers is answered by us, as long as nothing changes."""
        if ASKED in headers:
            return False
        if not self._has_legacy:
            return True
        split = self._split()
        is_ours = split.variant(headers, address) == "optimized"
        return is_ours and split.is_told_by_headers(headers)

    def _forced(self, headers: Mapping[str, str]) -> Variant | None:
        asked = headers.get(ASKED)
        if asked is None:
            return None
        is_open = self._allow_override and not self._is_rolled_back()
        if not is_open and not self._knows_token(headers.get(TOKEN)):
            return None
        match asked.strip().lower():
            case "legacy":
                return "legacy"
            case "optimized":
                return "optimized"
            case _:
                return None

    def _knows_token(self, given: str | None) -> bool:
        if given is None or self._admin_token is None:
            return False
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._admin_token)

    def __repr__(self) -> str:
        return f"<Variants {self._split()!r} override={self._allow_override}>"
