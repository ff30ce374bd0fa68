"""Which headers an intermediary hands on, and which it adds. Pure; RFC 9110 §7.6, RFC 9112."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

PSEUDONYM = "dashboard-proxy"
"""Our name in Via."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
# Made anew for the next hop: where a message ends must never be left to a
# header that the peer's Connection could name away.
_REMADE = frozenset({"content-length", "host", "expect"})
# A tester's admin token: it opens our doors, and the legacy's log is no place for it.
_SECRETS = frozenset({"x-dashboard-token"})
_UNDECODED = re.compile("[\udc80-\udcff]")

Headers = CIMultiDict[str] | CIMultiDictProxy[str]


@dataclass(frozen=True, slots=True)
class Hop:
    """How the request came in. `address` is the peer's, empty on a Unix socket."""

    address: str
    scheme: str
    version: tuple[int, int]


def connection_tokens(headers: Headers) -> frozenset[str]:
    """The options that Connection names, in lower case."""
    return frozenset(
        token
        for value in headers.getall("Connection", ())
        for part in value.split(",")
        if (token := part.strip().lower())
    )


def is_websocket(method: str, version: tuple[int, int], headers: Headers) -> bool:
    return (
        method == "GET"
        and version >= (1, 1)
        and headers.get("Upgrade", "").strip().lower() == "websocket"
        and "upgrade" in connection_tokens(headers)
    )


def request_headers(headers: Headers, hop: Hop, *, upgrades: bool = False) -> CIMultiDict[str]:
    """What the legacy gets: the caller's end-to-end headers, X-Forwarded-* and Via.

    An X-Forwarded-Proto or -Host that is there already was set by a proxy
    nearer to the caller, which knows better. Host and the body's framing are
    left to the client session. Expect is dropped: our server has answered it;
    so is the token that proves a tester to us.
    `upgrades` says that the caller wants, and may have, a WebSocket.
    """
    onward: CIMultiDict[str] = CIMultiDict(
        (name, _writable(value)) for name, value in _end_to_end(headers) if _is_kept(name)
    )
    _append(onward, "X-Forwarded-For", hop.address or "unknown")
    onward.setdefault("X-Forwarded-Proto", hop.scheme)
    if host := headers.get("Host"):
        onward.setdefault("X-Forwarded-Host", host)
    _append(onward, "Via", f"{hop.version[0]}.{hop.version[1]} {PSEUDONYM}")
    if upgrades:
        onward["Connection"] = "Upgrade"
        onward["Upgrade"] = "websocket"
    return onward


def response_headers(headers: Headers) -> CIMultiDict[str]:
    """What the caller gets of the legacy's headers; several of one name stay several.

    Content-Length stays unless Transfer-Encoding overrides it.
    """
    onward: CIMultiDict[str] = CIMultiDict(
        (name, value) for name, value in _end_to_end(headers) if name.lower() != "content-length"
    )
    if "Transfer-Encoding" not in headers and (length := headers.get("Content-Length")):
        onward["Content-Length"] = length
    return onward


def target_url(legacy_url: URL, raw_path: str) -> URL:
    """Where `raw_path` (path and query as received) lives on the legacy, byte for byte.

    All of it goes in as the path: yarl would lose a trailing `?` and cut a `#`.
    An absolute-form target loses its scheme and authority. Bytes that are no
    UTF-8 cannot be written by aiohttp and are percent-encoded.
    """
    if not raw_path.startswith("/"):
        raw_path = "/" if raw_path == "*" else str(URL(raw_path, encoded=True).relative())
    path = _UNDECODED.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", raw_path)
    return URL.build(
        scheme=legacy_url.scheme,
        authority=legacy_url.host_port_subcomponent or "",
        path=legacy_url.raw_path.rstrip("/") + path,
        encoded=True,
    )


def basic_credentials(legacy_url: URL) -> str | None:
    """The Authorization that a URL with a user in it stands for."""
    if legacy_url.user is None:
        return None
    pair = f"{legacy_url.user}:{legacy_url.password or ''}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _end_to_end(headers: Headers) -> Iterator[tuple[str, str]]:
    dropped = _HOP_BY_HOP | connection_tokens(headers)
    for name, value in headers.items():
        lowered = name.lower()
        if lowered not in dropped and not lowered.startswith("proxy-"):
            yield name, value


def _is_kept(name: str) -> bool:
    return name.lower() not in _REMADE | _SECRETS


def _append(headers: CIMultiDict[str], name: str, value: str) -> None:
    headers[name] = ", ".join([*headers.popall(name, []), value])


def _writable(value: str) -> str:
    """`value` with bytes that are no UTF-8 read as Latin-1: aiohttp's client would drop them."""
    if value.isascii() or not _UNDECODED.search(value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("latin-1")
