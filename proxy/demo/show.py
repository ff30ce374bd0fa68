"""The demo's programme: three requests and their times, then the pipeline at its work."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import aiohttp

from proxy.clock import Clock
from proxy.demo.asking import Timed, ask, campaigns
from proxy.demo.children import Child, Children, free_ports, until_listening

DAYS = 30
PORT, ADMIN_PORT, LEGACY_PORT = 8080, 8081, 5001


@dataclass(frozen=True, slots=True)
class Data:
    """The demo's two files and the newest date in them."""

    database: Path
    meta_database: Path
    end: date


@dataclass(frozen=True, slots=True)
class Stage:
    """A proxy, a legacy application behind it and a pipeline, all running. URLs without a slash."""

    url: str
    admin_url: str
    legacy_url: str
    pipeline: Child


@dataclass(frozen=True, slots=True)
class Act:
    """One of the three requests: where it was put, and what came of it."""

    what: str
    asked: str
    timed: Timed


@dataclass(frozen=True, slots=True)
class Seen:
    """A run of the pipeline, in its own words, and what the next two questions met."""

    line: str
    touched: Timed
    untouched: Timed


async def set_stage(
    children: Children,
    data: Data,
    state: Path,
    *,
    interval_s: float,
    config: Path | None = None,
) -> Stage:
    """Start all three; returns when the pipeline has run once and all ports answer.

    `config` is the proxy's configuration file.

    The first run comes before the first question, so that no write of the
    pipeline falls between the three requests.
    """
    port, admin_port, legacy_port = free_ports(PORT, ADMIN_PORT, LEGACY_PORT)
    legacy_url = f"http://127.0.0.1:{legacy_port}"
    files = ("--database", str(data.database), "--meta-database", str(data.meta_database))
    legacy = await children.start("legacy", "proxy.demo.legacy", *files, "--port", str(legacy_port))
    proxy = await children.start(
        "proxy",
        "proxy",
        "serve",
        *(() if config is None else ("--config", str(config))),
        *files,
        *("--port", str(port), "--admin-port", str(admin_port), "--legacy-url", legacy_url),
        environ={"PROXY_STATE": str(state)},
    )
    pipeline = await children.start(
        "pipeline",
        "proxy.demo.pipeline",
        *("--database", str(data.database), "--interval", str(interval_s)),
        is_heard=True,
    )
    await heard(pipeline)
    await until_listening(legacy, legacy_port)
    await until_listening(proxy, port)
    return Stage(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}", legacy_url, pipeline)


async def three_requests(
    session: aiohttp.ClientSession, stage: Stage, end: date, clock: Clock
) -> list[Act]:
    """The same question three times: to the proxy, again, and to the legacy application itself.

    Both have been asked another one before: a program's first answer shows how it starts.
    """
    question = campaigns(end, DAYS)
    for url in (stage.url, stage.legacy_url):
        await ask(session, url, campaigns(end, 1), clock)
    miss = await ask(session, stage.url, question, clock)
    hit = await ask(session, stage.url, question, clock)
    own = await ask(session, stage.legacy_url, question, clock)
    return [
        Act("a miss", "the proxy", miss),
        Act("a hit", "the proxy", hit),
        Act("the legacy's own", "the legacy", own),
    ]


async def pipeline_runs(
    session: aiohttp.ClientSession, stage: Stage, end: date, clock: Clock
) -> AsyncIterator[Seen]:
    """After each run of the pipeline: a question it has touched, and an older one it has not."""
    touched, untouched = campaigns(end, DAYS), campaigns(end - timedelta(days=DAYS), DAYS)
    await ask(session, stage.url, untouched, clock)
    while True:
        line = await heard(stage.pipeline)
        yield Seen(
            line,
            await ask(session, stage.url, touched, clock),
            await ask(session, stage.url, untouched, clock),
        )


async def heard(child: Child) -> str:
    """The next line that `child` says. Raises ChildError when it has stopped."""
    if child.process.stdout is None:
        raise ValueError(f"{child.name} is not heard")
    line = await child.process.stdout.readline()
    if not line:
        await child.process.wait()
        child.check()
    return line.decode(errors="replace").strip()


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without the caller's own PROXY_ variables: the demo has its own settings."""
    return {name: value for name, value in environ.items() if not name.startswith("PROXY_")}
