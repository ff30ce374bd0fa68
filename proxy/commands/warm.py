"""`dashboard-proxy warm`: have the usual and the popular questions ready before they are asked."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from proxy.app import run_proxy
from proxy.commands.admin_client import AdminClient, open_admin
from proxy.commands.exit_codes import CHECK_FAILED
from proxy.commands.options import (
    AdminUrl,
    AsJson,
    Author,
    Config,
    DatabaseFile,
    MetaDatabaseFile,
    Reason,
)
from proxy.commands.serve import log_on_stderr
from proxy.errors import SettingsError
from proxy.handlers.admin_jobs import job_as_json
from proxy.settings import Settings, environment, load_settings
from proxy.tracing.tracer import NO_TRACING

_PAUSE_S = 0.2

Tell = Callable[[Mapping[str, Any]], None]


class Which(StrEnum):
    usual = "usual"
    popular = "popular"
    all = "all"


def warm(
    queries: Annotated[
        Which,
        typer.Option(
            help="usual: yesterday, the last 7, 14, 30 and 90 days, the month to date. "
            "popular: what was asked often lately and is dear to compute."
        ),
    ] = Which.all,
    url: AdminUrl = None,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process", help="Without a running proxy: compute here, leave it in Redis."
        ),
    ] = False,
    database: DatabaseFile = None,
    meta_database: MetaDatabaseFile = None,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="With --in-process: the shared tier.")
    ] = None,
    reason: Reason = None,
    author: Author = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compute what is stale of the usual and the popular questions, and wait until it is done.

    Asks a running proxy to do it, or does it here with --in-process. Exit
    code 1 when the job failed, was cancelled, or had errors. Ctrl-C leaves a
    running proxy's job running.
    """
    given = {"database": database, "meta_database": meta_database, "redis_url": redis_url}
    if in_process:
        if url is not None:
            raise SettingsError("--in-process needs no --url: it asks no running proxy")
        settings = load_settings(config, given, environment())
        with _bar(as_json) as tell:
            job = asyncio.run(_warm_here(settings, queries, tell))
    else:
        if any(value is not None for value in given.values()):
            raise SettingsError(
                "--database, --meta-database and --redis-url go with --in-process only"
            )
        client = open_admin(url, config)
        body: dict[str, object] = {"queries": queries.value}
        body |= {"reason": reason} if reason else {}
        body |= {"author": author} if author else {}
        job_id = client.post("/warm", body)["job_id"]
        with _bar(as_json) as tell:
            job = _watch(client, job_id, tell)
    if as_json:
        typer.echo(orjson.dumps(job).decode())
    else:
        note = f" ({job['note']})" if job["note"] else ""
        typer.echo(f"{job['state']}: {job['done']}/{job['total']}, {job['errors']} errors{note}")
    if job["state"] != "done" or job["errors"]:
        raise typer.Exit(CHECK_FAILED)


def _watch(client: AdminClient, job_id: str, tell: Tell) -> dict[str, Any]:
    while True:
        job = client.get(f"/jobs/{job_id}")
        tell(job)
        if job["finished_at"] is not None:
            return job
        time.sleep(_PAUSE_S)


async def _warm_here(settings: Settings, queries: Which, tell: Tell) -> dict[str, Any]:
    """A proxy that nobody knows of, for the time of one job."""
    if settings.redis_url is None:
        raise SettingsError("--in-process needs --redis-url: memory is gone when this ends")
    log_on_stderr(settings)
    # A warning must be seen; what else happens, the bar shows.
    logging.getLogger().setLevel(logging.WARNING)
    own = {"host": "127.0.0.1", "port": 0, "admin_host": "127.0.0.1", "admin_port": 0}
    async with run_proxy(settings.model_copy(update=own), tracer=NO_TRACING) as running:
        job = running.warmup.ask(queries.value)
        while not job.is_over:
            tell(job_as_json(job))
            await asyncio.sleep(_PAUSE_S)
        await running.background.drained()
        return job_as_json(job)


@contextmanager
def _bar(as_json: bool) -> Iterator[Tell]:
    """A progress bar on a terminal; elsewhere nothing."""
    console = Console(stderr=True)
    columns = (
        TextColumn("warming up"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
    )
    is_hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
        bar = progress.add_task("", total=None, state="queued")

        def tell(job: Mapping[str, Any]) -> None:
            progress.update(
                bar, completed=job["done"], total=job["total"] or None, state=job["state"]
            )

        yield tell
