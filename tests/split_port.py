"""The public port over the fakes of the read path: a split to move, a shadow, a legacy to steer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiohttp import web
from yarl import URL

from proxy.background import Background
from proxy.canonical import Limits
from proxy.handlers.bypass import Bypass
from proxy.handlers.cors import Cors
from proxy.handlers.dashboard import Dashboard
from proxy.handlers.encodings import Encodings
from proxy.handlers.fast_lane import Lane
from proxy.handlers.front import Front
from proxy.handlers.lane_server import LaneServer
from proxy.handlers.passthrough import SERVER_OPTIONS, Passthrough
from proxy.handlers.sampling import Sampling
from proxy.handlers.upstream import open_legacy_session
from proxy.handlers.variants import Variants
from proxy.query import Key
from proxy.rollout.split import Split
from proxy.single_flight import SingleFlight
from tests.scripted_looks import DAY
from tests.shadowing import Stage, make_stage

PATH = "/api/dashboard/analytics/data"
QUESTION = orjson.dumps({"start_date": DAY, "end_date": DAY, "group_by": "campaign", "depth": 1})
ORIGIN = "https://app.example"


@dataclass
class Steered:
    """What decides the sides; `move` is what a change of the split does."""

    lane: Lane
    split: Split
    is_rolled_back: bool = False

    def move(self, percent: float, *, is_rolled_back: bool = False) -> None:
        self.split = Split(0 if is_rolled_back else percent, self.split.identity)
        self.is_rolled_back = is_rolled_back
        self.lane.forget()


@dataclass
class SplitPort:
    url: URL
    stage: Stage
    steered: Steered
    background: Background
    front: Front


def _keep_nothing(key: Key, etag: str, coding: str, data: bytes) -> None:
    pass


@asynccontextmanager
async def split_port(
    legacy_url: URL | None,
    *,
    split: Split,
    allow_override: bool = False,
    admin_token: str | None = None,
    is_working: bool = True,
    is_shadowed: bool = True,
) -> AsyncIterator[SplitPort]:
    """`is_working`: the shadow takes from its queue."""
    async with Background(drain_s=0) as background, open_legacy_session() as session:
        stage = make_stage(background)
        path = stage.path
        lane = Lane(
            path.read_through, path.telemetry, path.clock,
            shadow=stage.shadow if is_shadowed else None,
        )  # fmt: skip
        steered = Steered(lane, split)
        passthrough = Passthrough(legacy_url=legacy_url, session=session, telemetry=path.telemetry)
        has_legacy = legacy_url is not None
        sampling = Sampling(stage.shadow, path.read_through, stage.journal)
        dashboard = Dashboard(
            path.read_through,
            Bypass(passthrough, path.telemetry, path.clock),
            Encodings(SingleFlight(background), _keep_nothing),
            lane,
            path.telemetry,
            path.clock,
            limits=Limits(),
            cors=Cors(frozenset([ORIGIN])),
            variants=Variants(
                lambda: steered.split,
                lambda: steered.is_rolled_back,
                has_legacy=has_legacy,
                allow_override=allow_override,
                admin_token=admin_token,
            ),
            has_legacy=has_legacy,
            sampling=sampling if is_shadowed else None,
        )
        front = Front(dashboard, passthrough, path.telemetry, path.clock)
        server = LaneServer(front, lane, access_log=None, **SERVER_OPTIONS)
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            # As following the pipeline does: what is asked is known from the start.
            await path.watermarks.poll()
            async with stage.comparing:
                if is_working:
                    stage.shadow.start(background)
                url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
                yield SplitPort(url, stage, steered, background, front)
        finally:
            await asyncio.wait_for(runner.cleanup(), 10)
