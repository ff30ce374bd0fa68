from dataclasses import replace

import pytest

from proxy.answer import Answer
from proxy.handlers.responses import Wanted, cache_status, render_answer
from proxy.payload import Payload

BODY = b'{"success":true}'
HIT = Answer(
    Payload.of(BODY),
    "optimized",
    "hit",
    is_stored=True,
    stored_at=1000.0,
    cost_ms=1.25,
    watermark="2024-07-01 03:00:00",
)
PLAIN = Wanted(None, "", "")


def test_a_hit_has_the_headers_of_the_contract_and_no_others() -> None:
    rendered = render_answer(HIT, PLAIN, BODY, now=1012.9, more={})
    assert (rendered.status, rendered.body) == (200, BODY)
    assert rendered.headers == {
        "Content-Type": "application/json",
        "ETag": HIT.payload.etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "Cache-Status": "dashboard-proxy; hit",
        "Age": "12",
        "Server-Timing": 'cache;desc="hit", fill;dur=1.2',
        "X-Dashboard-Source": "optimized",
        "X-Data-Watermark": "2024-07-01 03:00:00",
    }


def test_an_encoded_body_says_so_and_has_its_own_tag() -> None:
    rendered = render_answer(HIT, Wanted("gzip", "", ""), b"packed", now=1000.0, more={})
    assert rendered.body == b"packed"
    assert rendered.headers["Content-Encoding"] == "gzip"
    assert rendered.headers["ETag"] == f'{HIT.payload.etag[:-1]}-gzip"'


@pytest.mark.parametrize("coding", [None, "zstd"])
def test_a_caller_that_has_the_body_gets_304_without_one(coding: str | None) -> None:
    wanted = Wanted(coding, HIT.payload.etag, "id-1")
    rendered = render_answer(HIT, wanted, BODY, now=1000.0, more={"Vary": "Origin"})
    assert (rendered.status, rendered.body) == (304, b"")
    assert "Content-Type" not in rendered.headers
    assert "Content-Encoding" not in rendered.headers
    assert rendered.headers["Vary"] == "Accept-Encoding, Origin"
    assert rendered.headers["X-Request-ID"] == "id-1"
    assert rendered.headers["Cache-Status"] == "dashboard-proxy; hit"


def test_a_caller_with_another_body_gets_this_one() -> None:
    rendered = render_answer(HIT, Wanted(None, '"other"', ""), BODY, now=1000.0, more={})
    assert (rendered.status, rendered.body) == (200, BODY)


def test_what_is_wrong_with_an_answer_stands_in_its_headers() -> None:
    stale = replace(HIT, source="stale", result="stale", warnings=("no_meta", "stale"))
    headers = render_answer(stale, PLAIN, BODY, now=1000.0, more={}).headers
    assert headers["X-Dashboard-Source"] == "stale"
    assert headers["X-Dashboard-Warning"] == "no_meta, stale"


def test_more_headers_are_added_and_vary_is_joined() -> None:
    more = {"Vary": "Origin", "X-Dashboard-Variant": "optimized"}
    headers = render_answer(HIT, PLAIN, BODY, now=1000.0, more=more).headers
    assert headers["Vary"] == "Accept-Encoding, Origin"
    assert headers["X-Dashboard-Variant"] == "optimized"


def test_what_is_not_kept_has_no_age_and_what_has_no_watermark_says_none() -> None:
    passing = replace(HIT, stored_at=None, watermark=None)
    headers = render_answer(passing, PLAIN, BODY, now=1000.0, more={}).headers
    assert (headers["Age"], headers["X-Data-Watermark"]) == ("0", "none")


def test_a_clock_that_went_back_makes_no_negative_age() -> None:
    assert render_answer(HIT, PLAIN, BODY, now=1.0, more={}).headers["Age"] == "0"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (HIT, "dashboard-proxy; hit"),
        (replace(HIT, detail="redis"), "dashboard-proxy; hit; detail=redis"),
        (replace(HIT, result="miss"), "dashboard-proxy; fwd=miss; stored"),
        (
            replace(HIT, result="stale", is_collapsed=True),
            "dashboard-proxy; fwd=stale; stored; collapsed",
        ),
        (
            replace(HIT, result="miss", is_stored=False, detail="sql_timeout"),
            "dashboard-proxy; fwd=miss; detail=sql_timeout",
        ),
    ],
)
def test_cache_status_says_what_the_cache_had_to_do_with_it(answer: Answer, status: str) -> None:
    assert cache_status(answer) == status
