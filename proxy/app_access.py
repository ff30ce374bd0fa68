"""Composes the doorman, where answers go only to those whom the legacy lets in."""

import secrets

from yarl import URL

from proxy.access.circuit_gate import CircuitGate
from proxy.access.doorman import Doorman
from proxy.access.legacy_gate import LegacyGate
from proxy.app_ground import Ground

_LONGEST_QUESTION_S = 10.0


def make_doorman(ground: Ground) -> Doorman | None:
    """None with PROXY_AUTH `off`. By default the legacy's root is asked, as a browser opens it."""
    settings, clock = ground.settings, ground.clock
    if settings.auth == "off":
        return None
    if settings.auth_url is not None:
        url = URL(str(settings.auth_url))
    else:
        legacy = URL(str(settings.legacy_url))
        url = legacy.with_path(legacy.path.rstrip("/") + "/")
    timeout_s = min(settings.legacy_timeout_s, _LONGEST_QUESTION_S)
    gate = LegacyGate(url, ground.session, timeout_s=timeout_s, tracer=ground.tracing.tracer)
    return Doorman(
        CircuitGate(gate, ground.background, clock, timeout_s=timeout_s),
        ground.background,
        clock,
        ttl_s=settings.auth_ttl_s,
        cookies=settings.auth_cookies,
        key=secrets.token_bytes(32),
    )
