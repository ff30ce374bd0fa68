"""Thousands of odd requests: each is answered or refused in time, and none is mistaken.

What a request means is read a second time here, by other code than the proxy's.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import date
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from proxy.app import Running
from proxy.handlers import dashboard
from tests.public_port import (
    EchoLegacy,
    Reply,
    ask,
    calling,
    echo_legacy,
    make_database,
    message,
    serving,
)

ANSWER_S = 10.0
"""Within this any request is answered or its connection closed, on a busy machine too."""
EXAMPLES = 560
REQUESTS = 5
LONGEST_DAYS = 1100
ODD = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

Meaning = tuple[str, date, date, str, str, int, bool]


class Stage:
    """One proxy that lives through all examples, and what its answers have meant so far."""

    def __init__(self, runner: asyncio.Runner, running: Running, legacy: EchoLegacy | None) -> None:
        self.runner = runner
        self.running = running
        self.legacy = legacy
        self.tags: dict[Meaning, str] = {}
        self.accepted = 0
        self.refused = 0
        self.passed_on = 0

    @property
    def url(self) -> URL:
        return self.running.url


@pytest.fixture(scope="module", params=["alone", "before a legacy"])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    database = make_database(tmp_path_factory.mktemp("bad") / "tables.db", "s")
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(dashboard, "BODY_TIMEOUT_S", 0.05)
        runner = stack.enter_context(asyncio.Runner())
        legacy = None
        legacy_url = None
        if request.param != "alone":
            echoing = echo_legacy()
            legacy = runner.run(echoing.__aenter__())
            stack.callback(lambda: runner.run(echoing.__aexit__(None, None, None)))
            legacy_url = str(legacy.url)
        proxying = serving(database, cors_origins=("https://app.example",), legacy_url=legacy_url)
        running = runner.run(proxying.__aenter__())
        stack.callback(lambda: runner.run(proxying.__aexit__(None, None, None)))
        yield Stage(runner, running, legacy)


# What a request means, or None when it is no question.

_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_OPTIONAL = {"breakdown", "depth", "include_sparkline"}


def meaning_of(path: str, parameters: dict[str, Any] | None) -> Meaning | None:
    if not parameters:
        return None
    is_analytics = "analytics" in path
    level_name, level = ("group_by", "ad") if is_analytics else ("hierarchy", "campaign")
    ignored = {"include_mixpanel", "enable_breakdown_mapping"} if is_analytics else set()
    if parameters.keys() - ignored - _OPTIONAL - {"start_date", "end_date", level_name}:
        return None
    start, end = _day(parameters.get("start_date")), _day(parameters.get("end_date"))
    level = parameters.get(level_name, level)
    breakdown = parameters.get("breakdown", "all")
    depth = parameters.get("depth", 3)
    sparkline = parameters.get("include_sparkline", False)
    if start is None or end is None or not 0 <= (end - start).days < LONGEST_DAYS:
        return None
    if level not in ["campaign", "adset", "ad"] or type(depth) not in (int, float):
        return None
    if breakdown not in ["all", "country", "region", "device"] or depth not in [1, 2, 3]:
        return None
    if not isinstance(sparkline, bool) or any(parameters.get(name, 1) is None for name in ignored):
        return None
    deepest = {"campaign": 3, "adset": 2, "ad": 1}[level]
    shape = "analytics" if is_analytics else "dashboard"
    return shape, start, end, level, breakdown, min(int(depth), deepest), sparkline


def _day(text: object) -> date | None:
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        return None
    try:
        return date(*map(int, text.split("-")))
    except ValueError:
        return None


def json_parameters(body: bytes) -> dict[str, Any] | None:
    try:
        text = body.decode("utf-8")
        if re.search(r"NaN|Infinity|\\ud[89a-f]", text, re.IGNORECASE):
            return None
        parsed = json.loads(text, parse_int=_number)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _number(text: str) -> int | float:
    return int(text) if len(text) < 20 else float(text)


def query_parameters(raw: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for pair in raw.split("&"):
        if not pair:
            continue
        try:
            name, text = (
                unquote_to_bytes(part.replace("+", " ")).decode("utf-8")
                for part in (pair.split("=", 1) if "=" in pair else (pair, ""))
            )
        except UnicodeDecodeError:
            return None
        if name in found:
            return None
        found[name] = text
        if name == "depth" and text in ("1", "2", "3"):
            found[name] = int(text)
        if name == "include_sparkline":
            words = {"true": True, "1": True, "false": False, "0": False}
            found[name] = words.get(text.lower(), text)
    return found


# Odd requests.

FIRST_ROWS, LAST_ROWS = date(2024, 5, 2), date(2024, 6, 30)
starts = st.sampled_from(["2024-05-31", "2024-06-01", "2024-06-15", "2024-06-21", "2023-05-01"])
ends = st.sampled_from(["2024-06-30", "2024-06-29", "2024-06-21", "2025-02-28", "2024-02-29"])
ODD_VALUES = [
    "2024-02-30",
    "0000-01-01",
    "9999-12-31",
    "0001-01-01",
    "2024-6-1",
    "２０２４-06-01",
    "2024-06-01T00:00",
    " 2024-06-01",
    "2024-06-01\n",
    "2024-06-01\x00",
    "20240601",
    "",
    20240601,
    1.0,
    1.5,
    2,
    3,
    4,
    0,
    -1,
    True,
    False,
    None,
    [],
    {},
    ["2024-06-01"],
    10**30,
    10**400,
    1e300,
    "ALL",
    "Campaign",
    "campaign ",
    "adset",
    "ad",
    "all",
    "country",
    "region",
    "device",
    "1",
    "true",
    "é",
    "\u0000",
    {"a": {"b": [1]}},
]  # fmt: skip
odd_values = st.one_of(
    st.sampled_from(ODD_VALUES),
    st.text(max_size=5),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
sane: dict[str, st.SearchStrategy[Any]] = {
    "start_date": starts,
    "end_date": ends,
    "hierarchy": st.sampled_from(["campaign", "adset", "ad"]),
    "group_by": st.sampled_from(["campaign", "adset", "ad"]),
    "breakdown": st.sampled_from(["all", "country", "region", "device"]),
    "depth": st.sampled_from([1, 2, 3, 1.0, 3.0]),
    "include_sparkline": st.booleans(),
    "include_mixpanel": st.sampled_from([True, False, 1, "x", None]),
    "unknown": st.just(1),
}
PATHS = ["/data", "/api/dashboard/data", "/analytics/data/optimized", "/analytics/data"]


@st.composite
def parameter_pairs(draw: st.DrawFn, path: str) -> list[tuple[str, Any]]:
    words = ["group_by", "hierarchy"] if "analytics" in path else ["hierarchy", "group_by"]
    level = words[draw(st.integers(0, 15)) == 15]
    optional = [level, "breakdown", "depth", "include_sparkline"]
    names = ["start_date", "end_date", *draw(st.lists(st.sampled_from(optional), max_size=3))]
    if draw(st.integers(0, 15)) == 15:
        names.append(draw(st.sampled_from(["unknown", "include_mixpanel", "start_date", "depth"])))
    if draw(st.integers(0, 15)) == 15:
        names.remove("end_date")
    odd = draw(st.sampled_from([*[""] * 2 * len(names), *names]))
    return [(name, draw(odd_values if name == odd else sane[name])) for name in names]


ODD_BODIES = [
    b"", b" ", b"{}", b"[]", b"null", b"true", b"1", b'"x"', b"{", b'{"start_date":', b"\xff\xfe",
    b"\xef\xbb\xbf{}", b"\x00", b"NaN", b'{"depth":NaN}', b'{"depth":1e999}',
    b'{"a":"\xed\xa0\x80"}',
    b"[" * 5000, b'{"a":' * 3000, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"start_date":"\\ud800"}',
    "{}".encode("utf-16"), gzip.compress(b"{}"), b"start_date=2024-06-01&end_date=2024-06-30",
    b'{"start_date":"2024-06-21","end_date":"2024-06-30"}x',
    b'{"start_date":"2024-06-21","end_date":"2024-06-30",}',
    b"{'start_date':'2024-06-21'}", b'{"depth":' + b"9" * 5000 + b"}",
]  # fmt: skip
GOOD = b'{"start_date":"2024-06-21","end_date":"2024-06-30"}'
ODD_BODIES += [
    GOOD.replace(b'"2024-06-30"', value)
    for value in (b"1e999", b"-0", b"1E400", b'"2024-06-30\\u0000"', b'"2024-06-3\\u0030"')
]
ODD_BODIES += [
    GOOD[:-1] + b',"depth":' + value + b"}"
    for value in (
        b"1.0",
        b"1.00000000000000000001",
        b"10e-1",
        b"0x1",
        b"01",
        b"-1",
        b"1e0",
        b"true",
    )
]


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    kind = draw(st.integers(0, 9))
    if kind == 9:
        return draw(st.sampled_from(ODD_BODIES))
    pairs = draw(parameter_pairs(path))
    space = draw(st.sampled_from(["", " ", "\n\t", "\r\n"]))
    text = ",".join(
        f"{space}{json.dumps(name)}:{space}{json.dumps(value)}" for name, value in pairs
    )
    body = (space + "{" + text + space + "}").encode()
    if kind == 8:
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.binary(max_size=3)) + body[place:]
    return body


@st.composite
def query_strings(draw: st.DrawFn, path: str) -> str:
    if draw(st.integers(0, 9)) == 9:
        odd = ["", "&", "=", "a", "%zz", "%", "%ff", "+", "&&=&", "start_date", "%00", "?", "a=b;c"]
        return draw(st.sampled_from(odd))
    parts = []
    for name, value in draw(parameter_pairs(path)):
        text = value if isinstance(value, str) else json.dumps(value)
        text = quote(text, safe=draw(st.sampled_from(["", ":/?@!$'()*,;"])))
        if draw(st.integers(0, 20)) == 20:
            text += draw(
                st.sampled_from(["%zz", "+", "%20", "%e9", "%C3%A9", "#x", "=", "%26", "%00"])
            )
        parts.append(f"{quote(name)}={text}")
    return draw(st.sampled_from(["", "", "", "&", "x&"])) + "&".join(parts)


ODD_HEADERS = [
    "Accept-Encoding: gzip;q=nan, zstd;q=1e999", "Accept-Encoding: gzip", "Accept-Encoding:",
    "Accept-Encoding: zstd;q=-1,*;q=\xff", "If-None-Match: *", "If-None-Match: W/", "X-A:\t",
    'If-None-Match: "', "If-None-Match: \xff", "X-Request-ID: one", "X-Request-ID: \xff\xfe",
    "X-Request-ID: " + "x" * 5000, "X-Request-ID: a\tb", "Origin: https://app.example",
    "Origin: null", "Origin: \xed\xa0\x80", "Cache-Control: no-cache", "Pragma: no-cache",
    "Content-Type: application/x-www-form-urlencoded", "Content-Type: \xff", "Range: bytes=0-1",
    "X-Request-ID: a%0d%0aX-Evil: 1", "Connection: keep-alive", "Connection: x-request-id",
    "Accept: text/html", "Forwarded: for=\xff", "X-Http-Method-Override: DELETE",
]  # fmt: skip
odd_headers = st.lists(
    st.sampled_from(ODD_HEADERS), max_size=3, unique_by=lambda line: line.partition(":")[0]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes, bytes]:
    """Method, target, body and the bytes of the whole."""
    path = draw(st.sampled_from(PATHS))
    headers = draw(odd_headers)
    method = draw(st.sampled_from(["POST", "POST", "GET", "HEAD"]))
    if method != "POST":
        target = f"{path}?{draw(query_strings(path))}"
        return method, target, b"", message(method, target, *headers)
    body = draw(bodies(path))
    if draw(st.integers(0, 9)) == 9 and body:
        cut = draw(st.integers(0, len(body) - 1))
        chunks = b"".join(
            f"{len(part):x};ext\r\n".encode() + part + b"\r\n"
            for part in (body[:cut], body[cut:])
            if part
        )
        coded = chunks + b"0\r\n\r\n"
        return (
            method,
            path,
            body,
            message(method, path, *headers, "Transfer-Encoding: chunked", body=coded),
        )
    length = f"Content-Length: {len(body)}"
    return method, path, body, message(method, path, *headers, length, body=body)


def test_an_odd_request_is_answered_for_what_it_means_or_refused(stage: Stage) -> None:
    @ODD
    @given(batch=st.lists(requests(), min_size=REQUESTS, max_size=REQUESTS))
    def run(batch: list[tuple[str, str, bytes, bytes]]) -> None:
        stage.runner.run(_one_by_one(stage, batch))

    run()
    asked = stage.accepted + stage.refused + stage.passed_on
    assert asked >= EXAMPLES * REQUESTS
    assert stage.accepted > asked / 5
    assert stage.refused > asked / 5
    assert len(stage.tags) > 100
    assert (stage.passed_on > asked / 10) is (stage.legacy is not None)


async def _one_by_one(stage: Stage, batch: list[tuple[str, str, bytes, bytes]]) -> None:
    async with calling(stage.url) as caller:
        for method, target, body, data in batch:
            async with asyncio.timeout(ANSWER_S):
                reply = await caller.ask(data)
            path, _, query = target.partition("?")
            parameters = json_parameters(body) if method == "POST" else query_parameters(query)
            _judge(stage, meaning_of(path, parameters), path, reply, is_head=method == "HEAD")


def _judge(
    stage: Stage, meaning: Meaning | None, path: str, reply: Reply, *, is_head: bool
) -> None:
    cache = reply.headers.get("cache-status", "")
    assert "x-evil" not in reply.headers
    if meaning is None:
        if "bypass" in cache:
            assert stage.legacy is not None
            stage.passed_on += 1
            return
        assert reply.status == 400
        assert is_head or orjson.loads(reply.body)["success"] is False
        stage.refused += 1
        return
    stage.accepted += 1
    if reply.status == 200 and "fwd=miss" in cache and "stored" not in cache:
        raise AssertionError(f"not kept: {reply}")
    if reply.status == 503:
        # No rows in this range: the legacy is asked instead, and what it echoes is no answer.
        _, start, end, *_ = meaning
        assert stage.legacy is not None
        assert end < FIRST_ROWS or start > LAST_ROWS
        return
    assert reply.status in (200, 304), reply
    # One key per meaning: the first is a miss, every other one a hit with the same tag.
    tag = re.sub('-(gzip|zstd)"', '"', reply.headers["etag"])
    assert ("hit" in cache) is (meaning in stage.tags), (meaning, cache)
    assert stage.tags.setdefault(meaning, tag) == tag
    if reply.status == 200 and "content-encoding" not in reply.headers and not is_head:
        _says_what_was_asked(meaning, orjson.loads(reply.body)["metadata"])


def _says_what_was_asked(meaning: Meaning, metadata: dict[str, Any]) -> None:
    shape, start, end, level, breakdown, depth, sparkline = meaning
    assert metadata["date_range"] == f"{start} to {end}"
    if shape == "analytics":
        assert metadata["query_config"] == {
            "start_date": str(start),
            "end_date": str(end),
            "group_by": level,
            "breakdown": breakdown,
            "depth": depth,
            "include_sparkline": sparkline,
        }


# Malformed framing: bytes on a bare connection.

LENGTH = f"Content-Length: {len(GOOD)}"
FRAMES = [
    b"\r\n\r\n\r\n" + message("GET", "/data"), b"\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n" * 9,
    b"RUBBISH\r\n\r\n", b"GET\r\n\r\n", b"GET /data HTTP/1.1\n\n", b"GET /data HTTP/9.9\r\n\r\n",
    b"get /data HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /data\r\n\r\n",
    b"GET /data?\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /data?a=\x00 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /data HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET /data HTTP/1.1\r\n: a\r\n\r\n", b"GET /data HTTP/1.1\r\nA\x00B: a\r\n\r\n",
    b"GET /data HTTP/1.1\r\nA: a\x00b\r\n\r\n", b"GET /data HTTP/1.1\r\nA: a\r\n folded\r\n\r\n",
    b"GET /data HTTP/1.1\r\nA: a\nX-Evil: 1\r\n\r\n",
    b"GET /data HTTP/1.1\r\nA: a\rX-Evil: 1\r\n\r\n",
    b"GET /data HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 500 + b"\r\n",
    message("POST", "/data", "Content-Length: 5", body=GOOD),
    message("POST", "/data", "Content-Length: 500", body=GOOD),
    message("POST", "/data", "Content-Length: -1", body=GOOD),
    message("POST", "/data", "Content-Length: 0x33", body=GOOD),
    message("POST", "/data", "Content-Length: " + "9" * 25, body=GOOD),
    message("POST", "/data", "Content-Length: " + "9" * 5000, body=GOOD),
    message("POST", "/data", "Content-Length:", body=GOOD),
    message("POST", "/data", LENGTH, LENGTH, body=GOOD),
    message("POST", "/data", LENGTH, "Content-Length: 5", body=GOOD),
    message("POST", "/data", LENGTH, "Transfer-Encoding: chunked", body=GOOD),
    message("POST", "/data", "Transfer-Encoding: gzip", body=GOOD),
    message("POST", "/data", "Transfer-Encoding: chunked, gzip", body=GOOD),
    message("POST", "/data", "Transfer-Encoding: chunked", body=GOOD),
    message("POST", "/data", "Transfer-Encoding: chunked", body=b"-1\r\nabc\r\n0\r\n\r\n"),
    message("POST", "/data", "Transfer-Encoding: chunked", body=b"FFFFFFFFFFFFFFFFFF\r\nabc"),
    message("POST", "/data", "Transfer-Encoding: chunked", body=b"3\r\nabcd\r\n0\r\n\r\n"),
    message("POST", "/data", "Transfer-Encoding: chunked", body=b"3\r\nab"),
    message("POST", "/data", "Transfer-Encoding: chunked", body=b"3\nabc\n0\n\n"),
    message("POST", "/data", LENGTH, "Expect: 100-continue"),
    message("POST", "/data", LENGTH, "Expect: miracles", body=GOOD),
    message("POST", "/data", LENGTH, "Connection: Upgrade", "Upgrade: h2c", body=GOOD),
    message("POST", "/data", LENGTH, "Content-Encoding: gzip", body=GOOD),
    message("POST", "/data", f"Content-Length: {10**7}", body=b"x" * 10**7),
    message("POST", "/data", "Transfer-Encoding: chunked", body=b"989680\r\n" + b"x" * 10**7),
    message("POST", "/data", f"Content-Length: {2**20}", body=b" " * 2**20),
    message("CONNECT", "dash:80"), message("OPTIONS", "*"), message("TRACE", "/data"),
    message("POST", "http://dash/data", LENGTH, body=GOOD), message("GET", "//data"),
    message("POST", "/data", LENGTH, *[f"X-{number}: 1" for number in range(90)], body=GOOD),
]  # fmt: skip


@pytest.mark.parametrize("data", FRAMES, ids=[str(number) for number in range(len(FRAMES))])
def test_malformed_bytes_are_refused_in_the_proxys_own_words(stage: Stage, data: bytes) -> None:
    replies = stage.runner.run(_replies(stage.url, data))
    # A caller that is still sending when it is refused may be met by a reset.
    assert replies or len(data) > 10**6
    for reply in replies:
        assert reply.status < 500 or _is_no_legacy(reply)
        assert "x-evil" not in reply.headers
        is_echo = reply.headers.get("content-type") == "application/x-echo"
        if reply.status >= 400 and not is_echo:
            assert reply.headers["content-type"] == "application/json"
            refusal = orjson.loads(reply.body)
            assert (refusal["success"], type(refusal["error"])) == (False, str)
    usual = stage.runner.run(ask(stage.url, message("POST", "/data", LENGTH, body=GOOD)))
    assert usual.status == 200


@ODD
@given(
    place=st.floats(0, 1),
    rubbish=st.binary(min_size=1, max_size=4),
    drop=st.sampled_from([0, 1, 5]),
)
def test_bytes_changed_anywhere_in_a_request_break_nothing(
    stage: Stage, place: float, rubbish: bytes, drop: int
) -> None:
    whole = message("POST", "/data", "Accept-Encoding: gzip", LENGTH, body=GOOD)
    at = int(place * len(whole))
    # The end of a head stands behind it all: nothing is left to wait for but a body.
    changed = whole[:at] + rubbish + whole[at + drop :] + b"\r\n\r\n"
    for reply in stage.runner.run(_replies(stage.url, changed)):
        assert reply.status < 500 or _is_no_legacy(reply)


def _is_no_legacy(reply: Reply) -> bool:
    return reply.status == 502 and b"no legacy application is configured" in reply.body


async def _replies(url: URL, data: bytes) -> list[Reply]:
    """All answers to `data`: the first must come though the caller could send more."""
    replies: list[Reply] = []
    async with asyncio.timeout(ANSWER_S), calling(url) as caller:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            caller.send(data)
            replies.append(await caller.reply())
            caller.writer.write_eof()
            while True:
                replies.append(await caller.reply())
    return replies
