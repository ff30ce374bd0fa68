"""/console: the page for operators and its parts. It holds no data: those come from /admin."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import xxhash
from aiohttp import web

from proxy.handlers.negotiation import has_already

PAGE = "index.html"
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    headers: Mapping[str, str]


class Console:
    """Answers with what was in the package when it started, and with nothing else.

    Needs no token and tells no secret; the page asks for the token and puts it to /admin.
    """

    def __init__(self, folder: Traversable | None = None) -> None:
        self._assets = assets_in(folder or files("proxy") / "console")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/console", self._page),
            web.get("/console/{name:.*}", self._asset),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        return self._respond(request, PAGE)

    async def _asset(self, request: web.Request) -> web.Response:
        return self._respond(request, request.match_info["name"] or PAGE)

    def _respond(self, request: web.Request, name: str) -> web.Response:
        asset = self._assets.get(name)
        if asset is None:
            return web.Response(status=404, text="the console has no such part\n", headers=_HEADERS)
        if has_already(request.headers.get("If-None-Match", ""), asset.headers["ETag"]):
            return web.Response(status=304, headers=asset.headers)
        return web.Response(body=asset.body, headers=asset.headers)

    def __repr__(self) -> str:
        return f"<Console {sorted(self._assets)}>"


def assets_in(folder: Traversable, prefix: str = "") -> dict[str, Asset]:
    """What may be asked for, by its path below `folder`: files of the known types, at any depth."""
    found: dict[str, Asset] = {}
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            found |= assets_in(entry, f"{name}/")
        elif (content_type := _TYPES.get(entry.name.rpartition(".")[2])) is not None:
            body = entry.read_bytes()
            etag = f'"{xxhash.xxh3_128_hexdigest(body)}"'
            found[name] = Asset(body, {**_HEADERS, "Content-Type": content_type, "ETag": etag})
    return found
