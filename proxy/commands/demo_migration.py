"""`dashboard-proxy demo --play migration`: the numbers of a migration, moving on the screen."""

from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from proxy.clock import Clock
from proxy.demo.children import Children
from proxy.demo.migration import Now, Play, Programme, Told
from proxy.demo.show import Data, set_stage, without_settings

_PIPELINE_S = 30.0
_ANSWER_TIMEOUT_S = 60.0
_STATE_FILES = ("migration-state.db", "migration-state.db-wal", "migration-state.db-shm")


async def show_migration(
    console: Console,
    data: Data,
    folder: Path,
    environ: Mapping[str, str],
    clock: Clock,
    programme: Programme | None = None,
) -> None:
    """The whole play. Raises ProxyError when an act does not come to its end."""
    programme = programme or Programme()
    for name in _STATE_FILES:
        # What an earlier play has rolled back would stay so.
        (folder / name).unlink(missing_ok=True)
    config = folder / "migration.toml"
    config.write_text(programme.as_toml(), encoding="utf-8")
    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
    async with (
        Children(folder, without_settings(environ)) as children,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        with Console(stderr=True).status("starting"):
            stage = await set_stage(
                children, data, folder / _STATE_FILES[0], interval_s=_PIPELINE_S, config=config
            )
        console.print(f"[bold]proxy[/bold] {stage.url}  [bold]admin[/bold] {stage.admin_url}/admin")
        began = clock.monotonic()
        looks = Play(session, stage, data.end, clock, programme).looks()
        with Live(console=console, auto_refresh=False, transient=True) as live:
            async with aclosing(looks):
                async for look in looks:
                    if isinstance(look, Told):
                        at = clock.monotonic() - began
                        live.console.print(f"[dim]{at:5.1f} s[/dim]  {look.text}", soft_wrap=True)
                    elif console.is_terminal:
                        live.update(_screen(look), refresh=True)


def _screen(now: Now) -> Table:
    table = Table(title=f"Act {now.act}", title_justify="left", show_header=False, width=76)
    table.add_column(style="bold", width=18)
    table.add_column(overflow="fold")
    table.add_row("split", f"{now.percent:g} %, rollout {now.state}")
    share = 0.0 if now.share is None else now.share * 100
    table.add_row("optimized now", ProgressBar(total=100, completed=share, width=50))
    table.add_row("compared", f"{now.compared:,}, {now.dropped:,} dropped")
    colour = "red" if now.mismatched else "green"
    table.add_row("mismatched", f"[{colour}]{now.mismatched:,}[/{colour}]")
    table.add_row("largest difference", now.worst or "none")
    table.add_row("verdict", f"{now.verdict}  [dim]{now.reason}[/dim]")
    table.add_row("callers' errors", f"{now.failed:,}")
    return table
