"""The syntax of W3C Trace Context, https://www.w3.org/TR/trace-context/."""

import pytest
from multidict import CIMultiDict

from proxy.tracing.parent import parse_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-ff",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"cc-{TRACE}-{SPAN}-01-",
    ],
)
def test_a_parent_is_read_and_handed_on_as_it_came(text: str) -> None:
    parent = parse_parent(CIMultiDict(Traceparent=text))
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (TRACE, SPAN)
    assert parent.flags == int(text[53:55], 16)
    assert parent.headers() == {"traceparent": text}
    assert not parent.is_ours


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        GOOD[:-1],
        GOOD + "1",
        GOOD + "-more",
        GOOD + " ",
        GOOD.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"cc-{TRACE}-{SPAN}-01-\x1b[31m",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{'٣' * 32}-{SPAN}-01",
        "cc-" + GOOD[3:] + "-" + "x" * 500,
    ],
)
def test_what_breaks_the_syntax_is_no_parent(text: str) -> None:
    assert parse_parent(CIMultiDict(traceparent=text)) is None


def test_of_two_parents_none_counts() -> None:
    headers = CIMultiDict([("traceparent", GOOD), ("Traceparent", GOOD)])
    assert parse_parent(headers) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["congo=t61rcWkgMzE"], "congo=t61rcWkgMzE"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1 ,\tb=2", " ", ""], "a=1,b=2"),
        (["tenant1/x@sys=value with spaces"], "tenant1/x@sys=value with spaces"),
        (["0a=1"], "0a=1"),
        (["a="], ""),
        (["a"], ""),
        (["A=1"], ""),
        (["a=b=c"], ""),
        (["a=\x1b"], ""),
        (["a=é"], ""),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        (["a=" + "x" * 256], "a=" + "x" * 256),
        (["a=" + "x" * 257], ""),
        (["a=" + "x" * 250, "b=" + "x" * 250, "c=" + "x" * 20], ""),
    ],
)
def test_a_state_is_handed_on_whole_or_not_at_all(states: list[str], expected: str) -> None:
    headers = CIMultiDict([("traceparent", GOOD), *(("tracestate", state) for state in states)])
    parent = parse_parent(headers)
    assert parent is not None
    assert parent.state == expected
    wanted = {"traceparent": GOOD, "tracestate": expected} if expected else {"traceparent": GOOD}
    assert parent.headers() == wanted


def test_a_state_without_a_parent_is_nothing() -> None:
    assert parse_parent(CIMultiDict(tracestate="a=1")) is None
