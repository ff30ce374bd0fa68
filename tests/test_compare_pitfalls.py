"""Two answers that differ where a careless comparison would see none."""

from datetime import date

from proxy.query import Query
from proxy.rollout.compare import compare
from proxy.rollout.result import Result
from proxy.rollout.rules import rules_of
from proxy.settings_tables import CompareTable

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 2), "campaign")
RULES = rules_of(CompareTable(), frozenset())


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
