"""What the legacy is asked about a caller, and what is made of its answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from proxy.access.credentials import Credentials
from proxy.access.legacy_gate import LARGEST_REFUSAL, LegacyGate
from proxy.access.verdict import Refusal
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.handlers.upstream import open_legacy_session
from tests.intermediary import RawLegacy, raw_legacy, scripted

ANNA = Credentials(("Basic YW5uYTprZXk=",), "session=abc; theme=dark")
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def no(*lines: str, body: bytes = b"") -> bytes:
    head = ["HTTP/1.1 401 Unauthorized", f"Content-Length: {len(body)}", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


@asynccontextmanager
async def gate_of(legacy: RawLegacy, path: str = "/page?x=1") -> AsyncIterator[LegacyGate]:
    async with open_legacy_session() as session:
        yield LegacyGate(legacy.url.join(URL(path)), session, timeout_s=0.3)


async def said(*answers: bytes, closes: bool = True) -> Refusal | None:
    async with raw_legacy(scripted(*answers, closes=closes)) as legacy, gate_of(legacy) as gate:
        return await gate.ask(ANNA)


async def test_it_is_asked_with_the_credentials_and_nothing_else_of_the_callers() -> None:
    async with raw_legacy(scripted(YES)) as legacy, gate_of(legacy) as gate:
        assert await gate.ask(ANNA) is None
    lines = legacy.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /page?x=1 HTTP/1.1"
    names = {line.partition(":")[0] for line in lines[1:] if line}
    assert names == {
        "Host", "Accept", "Accept-Encoding", "User-Agent", "Authorization", "Cookie",
    }  # fmt: skip
    assert "Authorization: Basic YW5uYTprZXk=" in lines
    assert "Cookie: session=abc; theme=dark" in lines


async def test_who_shows_nothing_is_asked_about_as_he_is() -> None:
    async with raw_legacy(scripted(YES)) as legacy, gate_of(legacy) as gate:
        assert await gate.ask(Credentials()) is None
    assert b"Authorization" not in legacy.heads[0]
    assert b"Cookie" not in legacy.heads[0]


async def test_a_user_in_the_url_is_not_who_is_asked_about() -> None:
    async with raw_legacy(scripted(YES)) as legacy, open_legacy_session() as session:
        gate = LegacyGate(legacy.url.with_user("u").with_password("p"), session, timeout_s=1)
        await gate.ask(Credentials())
        assert "u:p" not in repr(gate)
    assert b"Authorization" not in legacy.heads[0]


async def test_its_refusal_is_kept_as_far_as_it_is_handed_on() -> None:
    answer = no(
        "WWW-Authenticate: Basic realm=a",
        "WWW-Authenticate: Bearer",
        "Content-Type: text/html",
        "Set-Cookie: session=of-somebody",
        "Location: /login",
        body=b"<p>no",
    )
    assert await said(answer) == Refusal(
        401,
        (
            ("WWW-Authenticate", "Basic realm=a"),
            ("WWW-Authenticate", "Bearer"),
            ("Content-Type", "text/html"),
        ),
        b"<p>no",
    )


async def test_a_refusal_too_long_is_one_without_its_body() -> None:
    body = b"x" * (LARGEST_REFUSAL + 1)
    answer = no("Content-Type: text/html", "WWW-Authenticate: Basic", body=body)
    assert await said(answer) == Refusal(401, (("WWW-Authenticate", "Basic"),))
    at_most = no(body=body[:-1])
    assert await said(at_most) == Refusal(401, (), body[:-1])


async def test_a_refusal_that_breaks_off_is_a_refusal() -> None:
    assert await said(no(body=b"whole")[:-2]) == Refusal(401)


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_another_status_is_no_verdict_and_no_redirect_is_followed(status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n".encode()
    async with raw_legacy(scripted(answer, YES)) as legacy, gate_of(legacy) as gate:
        with pytest.raises(BackendError) as caught:
            await gate.ask(ANNA)
    assert caught.value.reason == "no_verdict"
    assert len(legacy.heads) == 1
    assert "YW5u" not in str(caught.value)


async def test_a_legacy_that_hangs_is_given_up() -> None:
    with pytest.raises(BackendTimeout) as caught:
        await said(closes=False)
    assert caught.value.reason == "auth_timeout"


async def test_a_legacy_that_is_not_there_is_told_as_such() -> None:
    async with raw_legacy(scripted()) as legacy:
        pass
    async with gate_of(legacy) as gate:
        with pytest.raises(BackendUnavailable):
            await gate.ask(ANNA)


async def test_an_idle_connection_that_died_is_no_verdict_of_anybody() -> None:
    async with raw_legacy(scripted(YES)) as legacy, gate_of(legacy) as gate:
        for _ in range(3):
            assert await gate.ask(ANNA) is None
    assert len(legacy.heads) == 3


async def test_a_legacy_that_always_hangs_up_is_asked_no_more_than_twice() -> None:
    async def hang_up(legacy: RawLegacy, reader: object, writer: object) -> None:
        await legacy.head(reader)  # type: ignore[arg-type]

    async with raw_legacy(hang_up) as legacy, gate_of(legacy) as gate:
        with pytest.raises(BackendUnavailable):
            await gate.ask(ANNA)
    assert legacy.connections == 2


async def test_credentials_that_are_no_utf8_reach_it_changed_rather_than_shortened() -> None:
    async with raw_legacy(scripted(YES)) as legacy, gate_of(legacy) as gate:
        await gate.ask(Credentials(("Bearer kÿ",)))
    assert "Authorization: Bearer kÿ\r\n".encode() in legacy.heads[0]
