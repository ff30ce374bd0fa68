"""A proxy and a demo legacy behind it, each a process of its own, as they are deployed."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.demo.children import Children, free_ports, until_listening
from tests.proxies import ProxyProcess
from tests.public_port import SMALL, make_database

CONFIG = """
[shadow]
rate = 0.2
[rollout]
steps = [50, 100]
interval_s = 3600
"""


@asynccontextmanager
async def deployed(
    folder: Path, *, config: str = CONFIG, has_legacy: bool = True, **settings: Any
) -> AsyncIterator[ProxyProcess]:
    """`folder` has the database and all that they write."""
    database = make_database(folder / "data.db", SMALL)
    file = folder / "proxy.toml"
    file.write_text(config, encoding="utf-8")
    [port] = free_ports(0)
    async with Children(folder, {"PYTHONPATH": ":".join(sys.path)}) as children:
        if has_legacy:
            legacy = await children.start(
                "legacy", "proxy.demo.legacy", "--database", str(database), "--port", str(port)
            )
            await until_listening(legacy, port)
            settings["legacy_url"] = f"http://127.0.0.1:{port}"
        async with ProxyProcess(database, config=file, **settings) as proxy:
            yield proxy
