"""Who may come to /admin, and errors there as JSON. One middleware around the whole room."""

import hmac
from ipaddress import IPv6Address, ip_address

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.errors import BackendError, ProxyError, RequestError, StoreError
from proxy.jobs import JobsFullError
from proxy.rollout.state import ConflictError


def make_guard(token: str | None) -> Middleware:
    """Lets in who knows `token`; without one, only this machine, and no web page on it."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = _refuse_stranger(request) if token is None else _refuse_unknown(request, token)
        if refused is not None:
            return refused
        try:
            return await handler(request)
        except RequestError as error:
            return failure(400, str(error))
        except (JobsFullError, ConflictError) as error:
            return failure(409, str(error))
        except (BackendError, StoreError) as error:
            return failure(503, str(error))
        except ProxyError as error:
            return failure(500, str(error))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return as_failure(error)

    return guard


def failure(status: int, text: str) -> web.Response:
    """`{"success": false, "error": text}`."""
    body = orjson.dumps({"success": False, "error": text})
    return web.Response(body=body, status=status, content_type="application/json")


def as_failure(error: web.HTTPException) -> web.Response:
    """What aiohttp refuses by itself: no such path, no such method, a body that is too long."""
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = sorted(error.allowed_methods)
            text = f"{error.method[:40]!a} is not for this path. Must be one of: {allowed}"
            response = failure(error.status, text)
            response.headers["Allow"] = ", ".join(allowed)
            return response
        case web.HTTPNotFound():
            return failure(error.status, "no such path: GET /admin/openapi.json lists them")
        case _:
            return failure(error.status, error.text or error.reason)


def _refuse_unknown(request: web.Request, token: str) -> web.Response | None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    known = token.encode()
    # Compared in any case, so that the time tells nothing.
    is_same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), known)
    if is_same and scheme.lower() == "bearer":
        return None
    response = failure(401, "Authorization: Bearer TOKEN is needed, with PROXY_ADMIN_TOKEN's")
    response.headers["WWW-Authenticate"] = 'Bearer realm="admin"'
    return response


def _refuse_stranger(request: web.Request) -> web.Response | None:
    if not _is_loopback(request.remote or ""):
        return failure(403, "without PROXY_ADMIN_TOKEN, /admin answers only this machine")
    # What a browser on this machine sends for a page from elsewhere, and what
    # a proxy in front sends for callers from elsewhere, comes from loopback too.
    host = request.url.host or ""
    if host != "localhost" and not _is_loopback(host):
        return failure(403, f"without PROXY_ADMIN_TOKEN, /admin does not answer as {host}")
    origin = request.headers.get("Origin")
    is_foreign = origin is not None and origin != f"{request.scheme}://{request.host}"
    # Not every request of a page has an Origin; this header no page can leave out or choose.
    site = request.headers.get("Sec-Fetch-Site", "none")
    if is_foreign or site not in ("same-origin", "none"):
        return failure(403, "without PROXY_ADMIN_TOKEN, /admin does not answer other pages")
    return None


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
