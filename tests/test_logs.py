import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from proxy.logs import HideSecrets, LogFormat, configure_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def only(stream: io.StringIO) -> dict[str, object]:
    lines = lines_of(stream)
    assert len(lines) == 1, lines
    return lines[0]


def test_a_json_event_is_one_line_with_timestamp_level_and_event() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    structlog.get_logger("x").info("started\nnow", port=8080)
    line = only(stream)
    assert line["event"] == "started\nnow"
    assert line["level"] == "info"
    assert line["port"] == 8080
    at = datetime.fromisoformat(str(line["timestamp"]))
    assert at.utcoffset() == datetime.now(UTC).utcoffset()


def test_the_standard_library_speaks_through_the_same_stream() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    logging.getLogger("aiohttp.server").warning("odd %s", "thing", extra={"peer": "127.0.0.1"})
    line = only(stream)
    assert (line["event"], line["level"], line["peer"]) == ("odd thing", "warning", "127.0.0.1")
    assert "timestamp" in line


def test_every_line_of_a_worker_says_which_it_is() -> None:
    stream = io.StringIO()
    configure_logs("json", stream, worker=3)
    structlog.get_logger("x").info("ours")
    logging.getLogger("asyncio").error("theirs")
    structlog.get_logger("x").info("of another", worker=4)
    said = [(line["event"], line["worker"]) for line in lines_of(stream)]
    assert said == [("ours", 3), ("theirs", 3), ("of another", 4)]


def test_debug_lines_are_left_out() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    structlog.get_logger().debug("chatter")
    logging.getLogger("asyncio").debug("chatter")
    assert stream.getvalue() == ""


def test_an_exception_is_text_inside_its_line() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    try:
        raise ConnectionError("redis://:hush@cache:6379 refused")
    except ConnectionError:
        structlog.get_logger().exception("store_failed")
        logging.getLogger("aiohttp.server").exception("handler failed")
    for line in lines_of(stream):
        assert "ConnectionError" in str(line["exception"])
        assert "redis://***@cache:6379" in str(line["exception"])
    assert "hush" not in stream.getvalue()
    assert len(lines_of(stream)) == 2


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_secrets_are_hidden_wherever_they_stand(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logs(log_format, stream, secrets=["sesame", ""])
    structlog.get_logger().warning(
        "asked http://user:hush@legacy/x with Bearer hush.hush",
        admin_token="hush",
        headers={"Authorization": "Basic hush", "X-Dashboard-Token": "hush", "Accept": "*/*"},
        seen=["redis://:hush@cache", b"redis://:hush@cache"],
        error=ValueError("sesame was wrong"),
    )
    text = stream.getvalue()
    assert "hush" not in text
    assert "sesame" not in text
    assert "http://***@legacy/x" in text
    assert "*/*" in text


def test_a_value_json_does_not_know_is_shown_by_its_repr() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    structlog.get_logger().info("x", at=datetime(2024, 1, 2), deep={1: {"a": (1, None, True)}})
    line = only(stream)
    assert line["at"] == "datetime.datetime(2024, 1, 2, 0, 0)"
    assert line["deep"] == {"1": {"a": [1, None, True]}}


def test_a_value_that_holds_itself_still_makes_a_line() -> None:
    ring: list[object] = []
    ring.append(ring)
    stream = io.StringIO()
    configure_logs("json", stream)
    structlog.get_logger().info("x", ring=ring)
    assert only(stream)["event"] == "x"


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("human", io.StringIO(), False),
    ],
)
def test_auto_goes_by_the_terminal(
    log_format: LogFormat, stream: io.StringIO, is_json: bool
) -> None:
    configure_logs(log_format, stream)
    structlog.get_logger().info("hello", port=1)
    assert stream.getvalue().startswith("{") is is_json
    assert "hello" in stream.getvalue()


def test_colours_are_for_terminals_only() -> None:
    plain = io.StringIO()
    configure_logs("human", plain)
    structlog.get_logger().info("hello")
    assert "\x1b[" not in plain.getvalue()


def test_a_second_configuration_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logs("json", first)
    log = structlog.get_logger("made.between")
    configure_logs("json", second)
    log.info("once")
    assert first.getvalue() == ""
    assert only(second)["event"] == "once"


def test_other_handlers_of_the_root_are_left_alone() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    configure_logs("json", io.StringIO())
    assert other in logging.getLogger().handlers


def test_bound_context_is_part_of_every_line() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    with structlog.contextvars.bound_contextvars(request_id="abc"):
        structlog.get_logger().info("x")
    assert only(stream)["request_id"] == "abc"


def test_words_that_only_look_like_credentials_stay() -> None:
    shown = HideSecrets()(None, "info", {"event": "see http://host/a and mail me@host", "n": 1})
    assert shown == {"event": "see http://host/a and mail me@host", "n": 1}
    assert not re.search(r"\*", str(shown))
