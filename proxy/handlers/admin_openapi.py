"""/admin/openapi.json: the document, with the addresses by which its reader came."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from yarl import URL

from proxy.handlers.admin_request import respond

Document = Callable[[str, str], dict[str, Any]]
"""Made for the URLs of the public and of the admin port."""

_EVERYWHERE = frozenset({"0.0.0.0", "::"})


class AdminOpenapi:
    """`public_url` is where the public port listens: whoever opens it last says so."""

    def __init__(self, document: Document, public_url: URL) -> None:
        self._document = document
        self.public_url = public_url

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/openapi.json", self._read)]

    async def _read(self, request: web.Request) -> web.Response:
        public, came_by = self.public_url, request.url
        if public.host in _EVERYWHERE and came_by.host:
            # Listening on every address: the one that led here leads there too.
            public = public.with_host(came_by.host)
        admin = str(came_by.origin()) if came_by.host else "/"
        return respond(self._document(str(public.origin()), admin))
