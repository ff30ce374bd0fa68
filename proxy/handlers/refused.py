"""The legacy's refusal as a response, for a caller that it does not let in."""

import orjson
from aiohttp import web
from multidict import CIMultiDict

from proxy.access.verdict import Refusal
from proxy.handlers.responses import CACHE_NAME


def refusal_response(refusal: Refusal, request_id: str) -> web.Response:
    """Its status, WWW-Authenticate and body; a body of ours where there is none to hand on."""
    headers = CIMultiDict(refusal.headers)
    body = refusal.body
    if not body:
        headers.popall("Content-Encoding", None)
        headers["Content-Type"] = "application/json"
        text = f"Refused by the legacy application with {refusal.status}"
        body = orjson.dumps({"success": False, "error": text})
    headers["Cache-Control"] = "no-store"
    headers["Cache-Status"] = f"{CACHE_NAME}; detail=auth"
    headers["X-Dashboard-Source"] = "legacy"
    headers["X-Request-ID"] = request_id
    return web.Response(status=refusal.status, headers=headers, body=body)
