import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rollout.split import Split


@given(st.text(max_size=40), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_percent_never_moves_anyone_back(identity: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    if Split(low).variant_of(identity) == "optimized":
        assert Split(high).variant_of(identity) == "optimized"


@pytest.mark.parametrize("percent", [0, 1, 5, 25, 50, 100])
def test_observed_share_of_ten_thousand_callers_is_within_a_point(percent: float) -> None:
    split = Split(percent, salt="spring")
    ours = sum(split.variant_of(f"user-{number}") == "optimized" for number in range(10_000))
    assert abs(ours / 100 - percent) <= 1


def test_another_salt_deals_anew() -> None:
    callers = [f"user-{number}" for number in range(1_000)]
    one, two = Split(50, salt="a"), Split(50, salt="b")
    moved = sum(one.variant_of(caller) != two.variant_of(caller) for caller in callers)
    assert 400 < moved < 600


@pytest.mark.parametrize(
    ("identity", "headers", "told_by"),
    [
        ("header:X-User-Id", {"X-User-Id": "7", "Authorization": "Basic x"}, "7"),
        ("cookie:session", {"Cookie": "a=1; session=s3; b=2"}, "s3"),
        ("cookie:session", {"Cookie": "a=1", "Authorization": "Basic x"}, "Basic x"),
        ("authorization", {"Authorization": "Basic x"}, "Basic x"),
        (None, {"Authorization": "Basic x", "Cookie": "a=1"}, "Basic x"),
        (None, {}, "10.0.0.9"),
        ("address", {"Authorization": "Basic x"}, "10.0.0.9"),
        ("header:X-User-Id", {}, "10.0.0.9"),
        ("cookie:session", {"Cookie": "\x00;;=;"}, "10.0.0.9"),
    ],
)
def test_identity_is_what_is_configured_else_credentials_else_address(
    identity: str | None, headers: dict[str, str], told_by: str
) -> None:
    for percent in range(5, 100, 5):
        split = Split(percent, identity)
        assert split.variant(headers, "10.0.0.9") == split.variant_of(told_by)


def test_only_an_address_is_not_told_by_the_headers() -> None:
    assert not Split(50).is_told_by_headers({})
    assert Split(50).is_told_by_headers({"Authorization": "Basic x"})
    assert Split(100).is_told_by_headers({})
    assert Split(0).is_told_by_headers({})
