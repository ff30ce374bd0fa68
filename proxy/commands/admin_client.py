"""Talks to a running proxy's admin port, for the commands that do."""

import http.client
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from proxy.errors import ProxyError, SettingsError
from proxy.settings import Settings, environment, load_settings

_TIMEOUT_S = 60.0


class UnreachableError(ProxyError):
    """The proxy is not there, or refuses: exit code 3."""


class AdminClient:
    """Asks one proxy. Raises UnreachableError, and SettingsError for what it calls a bad request.

    The token is sent and never shown: not in errors, not in its repr.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    def get(self, path: str) -> dict[str, Any]:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        return self._ask("POST", path, orjson.dumps(dict(body)))

    def delete(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        return self._ask("DELETE", path, orjson.dumps(dict(body)))

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        parts = urlsplit(self._url)
        is_tls = parts.scheme == "https"
        kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
            try:
                connection.request(method, f"{parts.path.rstrip('/')}/admin{path}", body, headers)
                response = connection.getresponse()
                status, text = response.status, response.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"no proxy answers at {self._url}: {error}") from error
        return self._told(status, text)

    def _told(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            told = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise UnreachableError(f"what answers at {self._url} is no proxy") from error
        if not isinstance(told, dict):
            raise UnreachableError(f"what answers at {self._url} is no proxy")
        if status < 400:
            return told
        said = f"the proxy at {self._url} refuses ({status}): {told.get('error', 'no reason')}"
        raise SettingsError(said) if status == 400 else UnreachableError(said)

    def __repr__(self) -> str:
        return f"<AdminClient {self._url}>"


def open_admin(url: str | None, config: Path | None = None) -> AdminClient:
    """The client for `url`, else for PROXY_ADMIN_HOST and PROXY_ADMIN_PORT."""
    settings = load_settings(config, {}, environment())
    token = settings.admin_token
    return AdminClient(
        _checked(url) if url is not None else _own_url(settings),
        None if token is None else token.get_secret_value(),
    )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or parts.username is not None or parts.query or parts.fragment:
        # Not shown: it may hold a password.
        raise SettingsError("--url must be one of http://HOST:PORT or https://…, of the admin port")
    return url.rstrip("/")


def _own_url(settings: Settings) -> str:
    if not settings.admin_port:
        raise SettingsError("PROXY_ADMIN_PORT is 0, any free port: say which with --url")
    host = settings.admin_host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{settings.admin_port}"
    if address.is_unspecified:
        # It listens on all addresses: this machine's own is one of them.
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{settings.admin_port}"
