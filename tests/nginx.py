"""A running nginx with one of the shipped files, where the machine has nginx."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.programs import program

_CACHES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configured(folder: Path, shipped: Path, replaced: Mapping[str, str]) -> Path:
    """`shipped` with each text that is `replaced`, inside a whole configuration for any user."""
    text = shipped.read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    folder.mkdir()
    (folder / shipped.name).write_text(text)
    caches = "".join(f"{name}_temp_path {folder}/{name};\n" for name in _CACHES)
    whole = folder / "nginx.conf"
    whole.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{caches}include {folder}/{shipped.name}; }}\n"
    )
    return whole


def checked(whole: Path) -> str:
    """What `nginx -t` has against the configuration `whole`; empty: nothing."""
    done = subprocess.run(
        [_nginx(), "-t", "-q", "-c", str(whole), "-p", str(whole.parent), "-e", "stderr"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode or done.stderr else ""


@asynccontextmanager
async def running_nginx(whole: Path, port: int) -> AsyncIterator[str]:
    """Its URL, once it listens on `port`."""
    folder = whole.parent
    process = await asyncio.create_subprocess_exec(
        _nginx(), "-c", str(whole), "-p", str(folder), "-e", str(folder / "error.log"),
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _until_listening(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_listening(process: asyncio.subprocess.Process, port: int) -> None:
    while True:
        assert process.returncode is None
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        await writer.wait_closed()
        return


def _nginx() -> str:
    found = program("nginx")
    assert found is not None
    return found
