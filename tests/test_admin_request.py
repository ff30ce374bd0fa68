"""What operators' bodies and parameters mean."""

import pytest

from proxy.canonical import Limits
from proxy.errors import RequestError
from proxy.handlers.admin_request import instant, questions_of

DATES = {"start_date": "2024-01-01", "end_date": "2024-01-02"}


@pytest.mark.parametrize(
    ("more", "shapes"),
    [
        ({}, ["dashboard", "analytics"]),
        ({"hierarchy": "ad"}, ["dashboard"]),
        ({"group_by": "ad"}, ["analytics"]),
        ({"include_mixpanel": True}, ["analytics"]),
        ({"shape": "analytics"}, ["analytics"]),
        ({"shape": "dashboard", "hierarchy": "ad"}, ["dashboard"]),
    ],
)
def test_the_words_tell_whose_question_it_is(more: dict[str, object], shapes: list[str]) -> None:
    assert [query.shape for query in questions_of(DATES | more, Limits())] == shapes


@pytest.mark.parametrize(
    "raw",
    [None, [], "x", {}, DATES | {"shape": "x"}, DATES | {"hierarchy": "ad", "group_by": "ad"}],
)
def test_what_is_no_question_is_refused(raw: object) -> None:
    with pytest.raises(RequestError):
        questions_of(raw, Limits())


def test_an_instant_is_written_in_utc() -> None:
    assert instant(0.5) == "1970-01-01T00:00:00.500Z"
    assert instant(None) is None
