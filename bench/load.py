"""A load generator that keeps a few connections busy with one request, bounded in time.

Run as `python -m bench.load HOST PORT CONNECTIONS SECONDS` with the raw
request on stdin; prints one JSON object. Loopback only.
"""

import asyncio
import ipaddress
import json
import os
import sys
import time
from typing import cast

import uvloop


class Caller(asyncio.Protocol):
    """Sends the request, reads the answer to its Content-Length, sends it again."""

    def __init__(self, raw: bytes, until: float, done: asyncio.Future[None]) -> None:
        self._raw = raw
        self._until = until
        self._done = done
        self._missing = 0
        self._buffer = b""
        self._sent_at = 0.0
        self.latencies_s: list[float] = []
        self.failures = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by class, only by what they do.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self.failures += 1
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            self._missing = length - (len(self._buffer) - end - 4)
            self._buffer = b""
        if self._missing == 0:
            now = time.perf_counter()
            self.latencies_s.append(now - self._sent_at)
            if now < self._until:
                self._send()
            else:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def load(host: str, port: int, connections: int, seconds: float, raw: bytes) -> str:
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    started = time.perf_counter()
    callers = []
    ends = []
    for _ in range(connections):
        done = loop.create_future()
        caller = Caller(raw, until, done)
        await loop.create_connection(lambda c=caller: c, host, port)  # type: ignore[misc]
        callers.append(caller)
        ends.append(done)
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*ends)
    took = time.perf_counter() - started
    latencies = sorted(latency for caller in callers for latency in caller.latencies_s)
    return json.dumps(
        {
            "requests": len(latencies),
            "seconds": took,
            "failures": sum(caller.failures for caller in callers),
            "p50_ms": latencies[len(latencies) // 2] * 1000,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        }
    )


def main() -> None:
    host, port, connections, seconds = sys.argv[1:]
    if not ipaddress.ip_address(host).is_loopback:
        sys.exit("loopback only")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    raw = sys.stdin.buffer.read()
    print(uvloop.run(load(host, int(port), int(connections), float(seconds), raw)))


if __name__ == "__main__":
    main()
