import pytest

from proxy.handlers.cors import Cors

APP = "https://app.example"
OURS = Cors(frozenset({APP}))
ANY = Cors(frozenset({"*"}))


def test_without_origins_nothing_is_added() -> None:
    assert Cors().answer_headers(APP) == {}
    assert Cors().preflight_headers(APP, None) is None


def test_an_origin_that_was_named_may_read_the_answer_with_its_credentials() -> None:
    headers = OURS.answer_headers(APP)
    assert headers["Access-Control-Allow-Origin"] == APP
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert "ETag" in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", [None, "null", "", "https://app.example.evil", f"{APP}/", "*"])
def test_any_other_caller_gets_the_same_answer_kept_apart_in_caches(origin: str | None) -> None:
    assert OURS.answer_headers(origin) == {"Vary": "Origin"}
    assert OURS.preflight_headers(origin, None) is None


def test_a_star_lets_every_origin_read_under_its_own_name() -> None:
    assert ANY.answer_headers("null")["Access-Control-Allow-Origin"] == "null"
    assert ANY.answer_headers(APP)["Access-Control-Allow-Origin"] == APP


def test_a_preflight_is_allowed_what_it_asks_for() -> None:
    headers = OURS.preflight_headers(APP, "X-A, X-B")
    assert headers is not None
    assert headers["Access-Control-Allow-Headers"] == "X-A, X-B"
    assert headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, OPTIONS"
    assert headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize("asked", [None, "", "\udcff", "X-é", "a\tb"])
def test_what_may_not_stand_in_a_header_is_not_sent_back(asked: str | None) -> None:
    headers = OURS.preflight_headers(APP, asked)
    assert headers is not None
    assert headers["Access-Control-Allow-Headers"] == "Content-Type"
    if asked:
        assert ANY.answer_headers(asked) == {"Vary": "Origin"}
