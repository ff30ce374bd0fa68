"""Two answers that differ where a careless comparison would see none."""

from datetime import date

import pytest

from proxy.query import Query
from proxy.rollout.compare import compare
from proxy.rollout.result import Result
from proxy.rollout.rules import rules_of
from proxy.settings_tables import CompareTable

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 2), "campaign")
RULES = rules_of(CompareTable(), frozenset())
UUID = "550e8400-e29b-41d4-a716-446655440000"


def compared(control: object, candidate: object) -> Result:
    return compare({"data": control}, {"data": candidate}, RULES, query=QUERY)


def test_rows_of_one_name_without_ids_are_not_taken_for_one() -> None:
    ours = [{"name": "x", "spend": 1}, {"name": "x", "spend": 100}]
    theirs = [{"name": "x", "spend": 1}, {"name": "x", "spend": 900}]
    assert compared(ours, ours).outcome == "matched"
    assert compared(ours, theirs).outcome == "mismatched"


def test_a_sparkline_that_the_legacy_sends_unasked_may_not_get_lost() -> None:
    theirs = [{"id": "1", "sparkline_data": [{"date": "2024-01-01", "roas": 1}]}]
    assert compared(theirs, [{"id": "1"}]).outcome == "mismatched"


def paths(control: object, candidate: object) -> set[tuple[str, str]]:
    """Path and field of each difference."""
    return {(one.path, one.field) for one in compared(control, candidate).differences}


@pytest.mark.parametrize(
    "key",
    ["1", "2024-01-01", "ann@example.com", "campaign_12345", "user12345", UUID, "18f0c2a9b3d4"],
)
def test_keys_that_are_ids_do_not_get_into_paths_and_fields(key: str) -> None:
    ours, theirs = ({"id": "1", "by": {key: value, "sum": value}} for value in (1, 900))
    assert paths([ours], [theirs]) == {("data.*.by.*", "*"), ("data.*.by.sum", "sum")}
    ours, theirs = ({"id": "1", "by": {key: {"spend": value}}} for value in (1, 900))
    assert paths([ours], [theirs]) == {("data.*.by.*.spend", "spend")}
    assert paths([{"id": "1", key: 1}], [{"id": "1"}]) == {("data.*.*", "*")}


@pytest.mark.parametrize("key", ["Ann Smith", "ann-7", "Ann", "a.b"])
def test_under_users_only_plain_words_are_names_of_fields(key: str) -> None:
    for name in ("user_details", "trial_users", "customers"):
        ours, theirs = ({"id": "1", name: {key: {"trials": n}, "sum": n}} for n in (1, 900))
        assert paths([ours], [theirs]) == {
            (f"data.*.{name}.*.trials", "trials"),
            (f"data.*.{name}.sum", "sum"),
        }


def test_an_object_whose_keys_are_words_without_end_has_an_end() -> None:
    letters = "abcdefghij"
    words = [f"{a}{b}{c}{d}" for a in letters for b in letters for c in letters for d in letters]
    ours, theirs = (dict.fromkeys(words, value) for value in (1, 900))
    found = compared([{"id": "1", "by": ours}], [{"id": "1", "by": theirs}]).differences
    assert found[0].path == "data.*.by.*"
    assert found[0].count > len(words) - 1000


def test_differences_below_keys_that_are_ids_are_counted_together() -> None:
    ours, theirs = ({"id": "1", "by": {str(day): value for day in range(50)}} for value in (1, 900))
    (found,) = compared([ours], [theirs]).differences
    assert (found.path, found.count) == ("data.*.by.*", 50)


def test_a_pattern_still_names_a_key_that_is_an_id() -> None:
    rules = rules_of(CompareTable(ignore=("by.campaign_12345",)), frozenset())
    ours, theirs = (
        {"data": [{"id": "1", "by": {"campaign_12345": n, "campaign_12346": n}}]} for n in (1, 900)
    )
    (found,) = compare(ours, theirs, rules, query=QUERY).differences
    assert found.count == 1
    rules = rules_of(CompareTable(ignore=("by.*",)), frozenset())
    assert compare(ours, theirs, rules, query=QUERY).outcome == "matched"


def test_a_level_is_told_by_the_rows_not_by_keys_that_are_ids() -> None:
    ours, theirs = ({"7": {"children": [{"id": "1", "spend": n}]}} for n in (1, 900))
    (found,) = compare({"meta": ours}, {"meta": theirs}, RULES, query=QUERY).differences
    assert (found.path, found.level) == ("meta.*.children.*.spend", "")
