"""The demo's child processes: started, heard, and never left behind."""

import asyncio
import os
import socket
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from proxy.demo.children import Child, ChildError, Children, free_ports, until_listening

READY = "print('ready', flush=True)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}"
WAIT = "import signal; signal.pause()"


def code(*lines: str) -> tuple[str, ...]:
    """Arguments of `python -m` that run any code at all."""
    return ("timeit", "-n1", "-r1", "; ".join(lines))


async def start(children: Children, *lines: str) -> Child:
    """Returns once the child has said that it is ready."""
    child = await children.start("child", *code(*lines), is_heard=True)
    assert child.process.stdout is not None
    assert await child.process.stdout.readline() == b"ready\n"
    return child


async def test_children_are_stopped_on_the_way_out(tmp_path: Path) -> None:
    async with Children(tmp_path, os.environ) as children:
        child = await start(children, READY, WAIT)
        assert repr(children) == "<Children running=['child']>"
    assert child.process.returncode == -15
    assert not psutil.pid_exists(child.process.pid)


async def test_children_are_stopped_when_something_fails(tmp_path: Path) -> None:
    started: list[Child] = []

    async def fail() -> None:
        async with Children(tmp_path, os.environ) as children:
            started.append(await start(children, READY, WAIT))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert started[0].process.returncode == -15


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    async with Children(tmp_path, os.environ, stop_s=0.01) as children:
        child = await start(children, STUBBORN, WAIT)
    assert child.process.returncode == -9


async def test_leaving_that_is_cancelled_still_kills(tmp_path: Path) -> None:
    is_leaving = asyncio.Event()
    started: list[Child] = []

    async def show() -> None:
        async with Children(tmp_path, os.environ, stop_s=60) as children:
            started.append(await start(children, STUBBORN, WAIT))
            is_leaving.set()

    task = asyncio.create_task(show())
    await is_leaving.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await started[0].process.wait() == -9


async def test_a_child_gets_the_environment_that_it_was_given(tmp_path: Path) -> None:
    show = "import os; print(os.environ['A'], os.environ['B'], 'PROXY_PORT' in os.environ)"
    environ = {"PATH": os.environ["PATH"], "A": "1"}
    async with Children(tmp_path, environ) as children:
        child = await children.start("child", *code(show), environ={"B": "2"}, is_heard=True)
        assert child.process.stdout is not None
        assert await child.process.stdout.readline() == b"1 2 False\n"
        await child.process.communicate()


async def test_a_child_that_stops_before_it_listens_is_told_with_its_last_words(
    tmp_path: Path,
) -> None:
    [port] = free_ports(0)
    async with Children(tmp_path, os.environ) as children:
        child = await children.start("child", *code("print('no such table', flush=True)", "1 / 0"))
        with pytest.raises(ChildError, match=r"demo's child has stopped: ZeroDivisionError"):
            await until_listening(child, port)
    assert "no such table" in child.log.read_text()


async def test_waiting_for_a_port_ends_when_it_listens(tmp_path: Path) -> None:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with Children(tmp_path, os.environ) as children:
            child = await start(children, READY, WAIT)
            await until_listening(child, listening.getsockname()[1])


async def test_waiting_for_a_port_that_never_listens_has_an_end(tmp_path: Path) -> None:
    [port] = free_ports(0)
    async with Children(tmp_path, os.environ) as children:
        child = await start(children, READY, WAIT)
        with pytest.raises(ChildError, match="does not listen"):
            await until_listening(child, port, timeout_s=0.05)


def test_a_preferred_port_is_taken_when_it_is_free() -> None:
    [free] = free_ports(0)
    assert free_ports(free) == [free]


def test_a_port_in_use_is_avoided_and_no_port_is_given_twice() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = free_ports(port, port)
    assert port not in found
    assert len(set(found)) == 2
