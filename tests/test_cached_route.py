"""Which requests have one key, which have none, and who is taken for a known user."""

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.cached_route import PastCacheError, Target, names_a_user, understand
from proxy.query import Key
from proxy.reading import Span
from proxy.settings_tables import CachedRoute

ROUTE = CachedRoute(path="/chart", methods=("GET", "POST"), key=("start_date", "end_date", "x"))
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def key(target: Target, *, route: CachedRoute = ROUTE, site: str = "http://legacy") -> Key:
    return understand(route, target, site, 1100).key


def asked_with(query_string: str, **headers: str) -> Target:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Target("GET", query_string, CIMultiDict(named))


def posted(body: bytes) -> Target:
    return Target("POST", "", CIMultiDict({"Content-Length": str(len(body))}), body)


def span(query_string: str) -> Span:
    return understand(ROUTE, asked_with(query_string), "http://legacy", 1100).span


@given(st.dictionaries(st.sampled_from(ROUTE.key), values))
def test_the_order_and_spelling_of_fields_mean_nothing(parameters: dict[str, object]) -> None:
    body = json.dumps(parameters).encode()
    other = json.dumps(dict(reversed(parameters.items())), indent=2, ensure_ascii=False).encode()
    assert key(posted(body)) == key(posted(other))


def test_questions_that_differ_in_meaning_have_different_keys() -> None:
    other = CachedRoute(path="/other", methods=("GET",), key=ROUTE.key)
    shared = CachedRoute(path="/chart", key=ROUTE.key, shared_between_users=True)
    keys = [
        key(asked_with("")),
        key(asked_with("x=")),
        key(asked_with("x=1")),
        key(asked_with("x=1", Origin="https://a.example")),
        key(asked_with("x=1", Origin="null")),
        key(asked_with("x=1"), route=other),
        key(asked_with("x=1"), route=shared),
        key(asked_with("x=1"), site="http://other"),
        key(posted(b"{}")),
        key(posted(b'{"x": null}')),
        key(posted(b'{"x": "1"}')),
        key(posted(b'{"x": 1}')),
        key(posted(b'{"x": 18446744073709551617}')),
        key(posted(b'{"x": 18446744073709551618}')),
    ]
    assert len(set(keys)) == len(keys)


def test_who_asks_is_no_part_of_a_shared_key() -> None:
    route = CachedRoute(path="/chart", key=ROUTE.key, shared_between_users=True)
    known = asked_with("x=1", Authorization="Basic a", Cookie="b=c", User_Agent="curl")
    assert key(known, route=route) == key(asked_with("x=1"), route=route)


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Cookie", "Proxy-Authorization", "X-Auth-Token", "X-Api-Key", "x-apikey",
        "X-User-Id", "X-Forwarded-User", "X-Forwarded-Email", "X-Amzn-Oidc-Identity", "X-Session",
        "X-CSRF-Token", "Cf-Access-Jwt-Assertion", "X-Tenant-Id", "X-Authenticated-Userid",
    ],
)  # fmt: skip
def test_headers_that_name_a_user_are_known(name: str) -> None:
    assert names_a_user(CIMultiDict({name: ""}))


@pytest.mark.parametrize(
    "name",
    [
        "User-Agent", "Accept", "Referer", "Host", "Origin", "X-Forwarded-For", "X-Request-ID",
        "Sec-Fetch-User", "Sec-Fetch-Site", "traceparent", "X-Requested-With", "DNT", "Priority",
    ],
)  # fmt: skip
def test_what_every_browser_sends_names_nobody(name: str) -> None:
    assert not names_a_user(CIMultiDict({name: "x"}))


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("start_date=2024-01-01&end_date=2024-01-31", (date(2024, 1, 1), date(2024, 1, 31))),
        ("start_date=2024-01-01&end_date=2024-01-01", (date(2024, 1, 1), date(2024, 1, 1))),
        ("start_date=2024-01-02&end_date=2024-01-01", (None, None)),
        ("start_date=2024-02-30&end_date=2024-03-01", (None, None)),
        ("start_date=2024-W01-1&end_date=2024-03-01", (None, None)),
        ("start_date=1024-01-01&end_date=2024-03-01", (None, None)),
        ("start_date=2024-01-01", (None, None)),
        ("", (None, None)),
    ],
)
def test_the_dates_are_those_named_else_all(
    query_string: str, expected: tuple[date | None, date | None]
) -> None:
    assert span(query_string) == Span(*expected)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b'"x"', b'{"x": NaN}', b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"x": 1'],
)
def test_a_body_that_is_no_object_goes_past(body: bytes) -> None:
    with pytest.raises(PastCacheError, match="body"):
        key(posted(body))


@pytest.mark.parametrize("raw", ["x=\udcff", "x=%ff", "x=%4", "&".join(["x"] * 65), "x=1&x=1"])
def test_a_query_string_that_servers_read_differently_goes_past(raw: str) -> None:
    with pytest.raises(PastCacheError):
        key(asked_with(raw))
