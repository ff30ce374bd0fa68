"""Binds the public port once, for workers that come and go."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from proxy.errors import SettingsError

_TRIES = 20


async def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, all on one port; 0: any that is free at all of them.

    They are bound and do not listen: the first worker that is ready has them do so.
    Raises SettingsError.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        raise refused(host, port, error) from error
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for tries_left in reversed(range(_TRIES if port == 0 else 1)):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            # A port that was free at the first address may be taken at the second.
            if not tries_left:
                raise refused(host, port, error) from error
    raise AssertionError("unreachable")


def _bind_all(addresses: Sequence[tuple[int, tuple[Any, ...]]], port: int) -> list[socket.socket]:
    with ExitStack() as stack:
        bound: list[socket.socket] = []
        for family, address in addresses:
            try:
                one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            except OSError:
                # A kernel without IPv6 resolves names to such addresses all the same.
                continue
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setblocking(False)
            one.bind((address[0], port, *address[2:]))
            port = one.getsockname()[1]
            bound.append(one)
        if not bound:
            raise OSError("no address to listen on")
        stack.pop_all()
        return bound


def refused(
    host: str,
    port: int,
    error: OSError | ValueError,
    variables: str = "PROXY_HOST, PROXY_PORT",
) -> SettingsError:
    """Why nothing can listen there. `variables` are those that say where."""
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return SettingsError(f"cannot listen on {where} ({variables}): {_reason(error)}")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        # A word of it has no letter, or more than 63.
        return "no host can have this name"
    number = error.errno or 0
    return (os.strerror(number) if number > 0 else error.strerror or str(error)).lower()
