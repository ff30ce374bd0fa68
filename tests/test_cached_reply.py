"""What of the legacy's answers is worth keeping, and which of its headers go with it."""

from dataclasses import replace

import orjson
import pytest

from proxy.cache.codec import HEAD_BYTES, encode, peek
from proxy.cached_reply import LegacyReply, kept_headers, why_no_data, why_not_kept, why_not_shared
from tests.entries import an_entry


def reply(value: object, *headers: tuple[str, str], status: int = 200) -> LegacyReply:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return LegacyReply(status, "", (("Content-Type", "application/json"), *headers), body)


DATA = {"success": True, "data": [1]}


@pytest.mark.parametrize(
    "value",
    [
        DATA,
        {"success": True, "data": {"total": 0}},
        {"success": True, "data": {"series": [1], "labels": []}},
        {"success": True, "data": [1], "others": []},
        {"success": True, "chart_data": [1], "metadata": {}, "count": 0},
    ],
)
def test_an_answer_with_data_is_kept(value: object) -> None:
    assert why_not_kept(reply(value), is_shared=False) == ""


@pytest.mark.parametrize(
    "value",
    [
        {"success": True},
        {"success": True, "data": None},
        {"success": True, "data": []},
        {"success": True, "data": {}},
        {"success": True, "data": {"series": [], "note": "", "more": {"rows": None}}},
        {"success": True, "data": 5},
        {"success": True, "data": [], "others": [1]},
        {"success": True, "metadata": {"a": 1}, "warnings": ["x"]},
        {"success": True, "chart_data": [], "date_range": {"start": "2024-01-01"}},
        {"success": True, "chart_data": None, "date_range": {"start": "2024-01-01"}},
        {"success": True, "count": 5},
    ],
)
def test_an_answer_that_may_hide_a_failure_is_empty(value: object) -> None:
    assert why_no_data(reply(value)) == "empty"


@pytest.mark.parametrize("success", [False, None, "true", 1])
def test_success_is_nothing_but_true(success: object) -> None:
    assert why_no_data(reply({"success": success, "data": [1]})) == "no-success"


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"<html>"])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    assert why_no_data(reply(body)) == "no-json"


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("application/json; charset=utf-8", ""),
        ("application/vnd.chart+json", ""),
        ("text/html", "no-json"),
        ("", "no-json"),
    ],
)
def test_the_type_has_to_be_json_too(content_type: str, reason: str) -> None:
    typed = LegacyReply(200, "", (("content-type", content_type),), orjson.dumps(DATA))
    assert why_no_data(typed) == reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (("set-cookie", "a=b"), "set-cookie"),
        (("Cache-Control", "max-age=0, No-Store"), "no-store"),
        (("Cache-Control", 'private="x"'), "private"),
        (("Cache-Control", "no-cache, max-age=0"), ""),
        (("Vary", "Accept-Encoding, origin"), ""),
        (("Vary", "Cookie"), "vary"),
        (("Vary", "*"), "vary"),
        (("Content-Encoding", "gzip"), "encoding"),
        (("Content-Encoding", "identity"), ""),
    ],
)
def test_headers_say_whether_others_may_see_it(header: tuple[str, str], reason: str) -> None:
    assert why_not_shared(reply(DATA, header), is_shared=False) == reason
    assert why_not_kept(reply(DATA, header), is_shared=False) == reason


def test_the_operators_word_outdoes_private_but_no_other() -> None:
    assert why_not_kept(reply(DATA, ("Cache-Control", "private")), is_shared=True) == ""
    assert why_not_kept(reply(DATA, ("Cache-Control", "no-store")), is_shared=True) == "no-store"
    assert why_not_kept(reply(DATA, ("Set-Cookie", "a=b")), is_shared=True) == "set-cookie"


def test_headers_of_one_transfer_stay_behind() -> None:
    kept = kept_headers(
        reply(
            DATA,
            ("Date", "today"),
            ("Server", "werkzeug"),
            ("ETag", '"x"'),
            ("X-Dashboard-Source", "forged"),
            ("Cache-Status", "hit"),
            ("Link", "<a>"),
            ("link", "<b>"),
            ("vary", "Accept-Encoding"),
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", "*"),
        )
    )
    assert kept == (
        ("Link", "<a>, <b>"),
        ("Access-Control-Allow-Origin", "*"),
        ("Vary", "Origin"),
    )


@pytest.mark.parametrize("value", ["x" * 3000, "caf\u00e9", "\udcff"])
def test_headers_that_could_not_be_stored_keep_an_answer_from_being_kept(value: str) -> None:
    assert why_not_kept(reply(DATA, ("X-Note", value)), is_shared=False) == "headers"
    typed = LegacyReply(
        200, "", (("Content-Type", f"application/json; x={value}"),), orjson.dumps(DATA)
    )
    assert why_not_kept(typed, is_shared=False) == "headers"


def test_the_head_of_the_longest_entry_can_still_be_peeked_at() -> None:
    headers = (("x", '"' * 1023),)
    entry = replace(an_entry(), query=None, question='"' * 300, headers=headers)
    assert peek(encode(entry)[:HEAD_BYTES]).question == entry.question
