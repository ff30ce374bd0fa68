"""Makes the shadow: both sides, and the workers that ask the one that was not asked."""

from random import Random

from proxy.app_ground import Ground
from proxy.app_path import ReadPath
from proxy.backends.legacy import LegacyBackend
from proxy.rollout.shadow import Shadow
from proxy.rollout.sides import LegacySide, OptimizedSide


def make_shadow(ground: Ground, path: ReadPath) -> Shadow | None:
    """None where there is no other side to ask."""
    if ground.legacy_url is None or ground.yardstick is None:
        return None
    table, clock, journal = ground.settings.shadow, ground.clock, ground.records.journal
    pace, tracer = ground.yardstick.pace, ground.tracing.tracer
    # A backend and a circuit of its own: what the shadow meets must not keep callers from asking.
    legacy = LegacyBackend(
        ground.legacy_url,
        ground.session,
        ground.shapes,
        clock,
        timeout_s=table.timeout_s,
        tracer=tracer,
    )
    return Shadow(
        LegacySide(legacy, pace, timeout_s=table.timeout_s),
        OptimizedSide(
            path.read_through,
            journal,
            clock,
            pace,
            timeout_s=table.timeout_s,
            other_mode=ground.yardstick.other_mode,
        ),
        ground.yardstick.comparing,
        path.watermarks,
        journal,
        pace,
        clock,
        chance=Random().random,
        queue=table.queue,
        noise_every=table.noise_every,
        tracer=tracer,
    )
