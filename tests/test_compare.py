"""Two answers held together: what is found, where, how often, and what of it decides."""

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.query import Level, Query
from proxy.rollout.compare import compare
from proxy.rollout.differences import LONGEST_TEXT, MOST
from proxy.rollout.result import Difference, Result
from proxy.rollout.rules import Rules, rules_of
from proxy.settings_tables import CompareTable
from tests import compare_oracle as oracle

Document = dict[str, Any]


def a_query(level: Level = "campaign", depth: int = 3) -> Query:
    return Query("analytics", date(2024, 1, 1), date(2024, 1, 7), level, depth=depth)


def rules_with(*, rates: frozenset[str] = frozenset({"roas"}), **table: Any) -> Rules:
    return rules_of(CompareTable.model_validate(table), rates)


RULES = rules_with()


def a_row(level: str, number: int, *children: Document, **fields: Any) -> Document:
    return {
        "id": f"{level}_{number}",
        "entity_type": level,
        "name": f"Name {number}",
        "spend": 100.0,
        "mixpanel_purchases": 7,
        "roas": 0.5,
        "clicks": 50,
        "breakdowns": [],
        **fields,
        "children": list(children),
    }


def an_answer(*rows: Document, **top: Any) -> Document:
    return {"success": True, "data": list(rows), "metadata": {"generated_at": "now"}, **top}


def a_tree() -> Document:
    return an_answer(
        a_row("campaign", 1, a_row("adset", 11, a_row("ad", 111), a_row("ad", 112))),
        a_row("campaign", 2, a_row("adset", 21)),
    )


def compared(
    control: object, candidate: object, rules: Rules = RULES, query: Query | None = None
) -> Result:
    return compare(control, candidate, rules, query=query or a_query())


def changed(change: Callable[[Document], object], document: Document | None = None) -> Result:
    """An answer against itself with one thing changed."""
    control = document or a_tree()
    candidate = copy.deepcopy(control)
    change(candidate)
    return compared(control, candidate)


def only(result: Result) -> Difference:
    (one,) = result.differences
    return one


def every_row(document: Document) -> Iterator[Document]:
    todo = list(document["data"])
    while todo:
        row = todo.pop()
        todo += row["children"]
        yield row


def test_equal_answers_match_and_each_row_is_counted() -> None:
    assert compared(a_tree(), a_tree()) == Result("matched", (), False, 6)


def test_a_deciding_number_off_at_depth_is_a_mismatch() -> None:
    result = changed(lambda doc: doc["data"][0]["children"][0]["children"][1].update(spend=105.0))
    assert result.outcome == "mismatched"
    assert not result.is_structural
    path = "data.*.children.*.children.*.spend"
    error = 1 - 100.0 / 105.0
    assert only(result) == Difference(path, "spend", "ad", "value", 100.0, 105.0, error, 1, True)


def test_another_number_off_is_reported_and_ignored() -> None:
    result = changed(lambda doc: doc["data"][0].update(clicks=5000))
    assert result.outcome == "ignored"
    assert (only(result).field, only(result).is_deciding) == ("clicks", False)


def test_a_number_within_its_tolerance_is_no_difference() -> None:
    assert changed(lambda doc: doc["data"][0].update(spend=100.9)).outcome == "matched"


def test_a_field_is_exact_where_it_is_set_so() -> None:
    rules = rules_with(fields={"mixpanel_purchases": {"relative": 0, "floor": 0}})
    control = an_answer(a_row("campaign", 1, mixpanel_purchases=1000))
    candidate = an_answer(a_row("campaign", 1, mixpanel_purchases=1001))
    assert compared(control, candidate).outcome == "matched"
    assert compared(control, candidate, rules).outcome == "mismatched"


def test_int_and_float_are_one_type() -> None:
    assert changed(lambda doc: doc["data"][0].update(spend=100, clicks=50.0)).outcome == "matched"


@pytest.mark.parametrize("value", [None, "7", True, [7], {"a": 7}])
def test_another_type_decides_in_any_field(value: object) -> None:
    result = changed(lambda doc: doc["data"][0].update(clicks=value))
    assert (result.outcome, result.is_structural) == ("mismatched", True)
    assert (only(result).kind, only(result).path) == ("type", "data.*.clicks")


def test_a_boolean_is_no_number() -> None:
    result = compared(an_answer(a_row("ad", 1, x=True)), an_answer(a_row("ad", 1, x=1)))
    assert only(result).kind == "type"


def test_keys_that_only_the_control_has_decide() -> None:
    for change in (
        lambda doc: doc.pop("success"),
        lambda doc: doc["data"][0].pop("clicks"),
        lambda doc: doc["data"][1]["children"][0].pop("name"),
        lambda doc: doc.pop("metadata"),
    ):
        result = changed(change)
        assert (result.outcome, result.is_structural) == ("mismatched", True)
        assert (only(result).kind, only(result).is_deciding) == ("missing_key", True)
        assert only(result).candidate is None


def test_keys_that_only_the_candidate_has_are_reported() -> None:
    for change in (
        lambda doc: doc.update(more=1),
        lambda doc: doc["data"][0].update(more=1),
        lambda doc: doc["data"][0].pop("id") and doc["data"][0].update(id="campaign_1", spent=3),
    ):
        result = changed(change)
        assert result.outcome == "ignored"
        assert (only(result).kind, only(result).control) == ("added_key", None)


def test_a_row_of_one_side_decides() -> None:
    gone = changed(lambda doc: doc["data"][0]["children"][0]["children"].pop())
    assert only(gone) == Difference(
        "data.*.children.*.children.*",
        "children",
        "ad",
        "missing_row",
        "ad_112",
        None,
        None,
        1,
        True,
    )
    more = changed(lambda doc: doc["data"].append(a_row("campaign", 3)))
    assert only(more) == Difference(
        "data.*", "data", "campaign", "extra_row", None, "campaign_3", None, 1, True
    )
    assert gone.is_structural
    assert more.outcome == "mismatched"


def test_another_order_is_reported_once_per_list() -> None:
    result = changed(lambda doc: doc["data"].reverse())
    assert result.outcome == "ignored"
    assert only(result) == Difference(
        "data", "data", "campaign", "order", "campaign_1", "campaign_2", None, 1, False
    )


def test_a_doubled_row_is_compared_once_and_reported() -> None:
    def repeat(doc: Document) -> None:
        adset = doc["data"][0]["children"][0]
        doc["data"][0]["children"] += [{**adset, "spend": 1.0}, {**adset, "spend": 2.0}]

    result = changed(repeat)
    assert result.outcome == "ignored"
    assert (only(result).kind, only(result).control, only(result).candidate) == (
        "doubled_row",
        1,
        3,
    )
    assert result.rows == 6
    both = a_tree()
    repeat(both)
    assert compared(both, both).outcome == "matched"


def test_rows_that_the_legacy_repeats_hide_no_wrong_number() -> None:
    control = an_answer(a_row("campaign", 1, a_row("adset", 2), a_row("adset", 2)))
    candidate = an_answer(a_row("campaign", 1, a_row("adset", 2, spend=50.0)))
    kinds = {one.kind for one in compared(control, candidate).differences}
    assert kinds == {"doubled_row", "value"}


def test_children_below_the_asked_levels_are_not_compared() -> None:
    control, candidate = a_tree(), a_tree()
    for row in candidate["data"]:
        row["children"] = []
    assert compared(control, candidate, query=a_query(depth=1)).outcome == "matched"
    assert compared(control, candidate, query=a_query(depth=2)).outcome == "mismatched"
    # The other way round too, and for a level in the middle.
    assert compared(candidate, control, query=a_query(depth=1)).outcome == "matched"
    adsets = an_answer(a_row("adset", 1, a_row("ad", 2)))
    bare = an_answer(a_row("adset", 1))
    assert compared(adsets, bare, query=a_query("adset", 1)).outcome == "matched"
    assert compared(adsets, bare, query=a_query("adset", 2)).outcome == "mismatched"


def test_what_is_ignored_by_declaration_is_no_difference() -> None:
    control = an_answer(a_row("campaign", 1, sparkline_data=[{"date": "d", "roas": 1}], secs=1))
    candidate = an_answer(a_row("campaign", 1, sparkline_data=7, secs="x"))
    candidate["metadata"] = {"query_time_ms": 5}
    rules = rules_with(ignore=["metadata.*", "sparkline_data", "data.*.secs"])
    assert compared(control, candidate, rules).outcome == "matched"
    assert compared(control, candidate).outcome == "mismatched"


def test_metadata_has_to_be_there_whatever_is_in_it() -> None:
    assert changed(lambda doc: doc["metadata"].clear()).outcome == "matched"
    assert changed(lambda doc: doc.update(metadata=None)).outcome == "mismatched"


def test_keys_that_are_ours_alone_differ_in_nothing() -> None:
    ours = an_answer(
        a_row(
            "campaign",
            1,
            entity_id="1",
            breakdown_data=[{"breakdown_type": "country", "breakdown_value": "US", "spend": 1.0}],
            sparkline_data=[],
        )
    )
    legacy = an_answer(a_row("campaign", 1))
    del legacy["data"][0]["breakdowns"]
    assert compared(legacy, ours).outcome == "matched"
    assert compared(ours, legacy).outcome == "matched"


def test_older_breakdowns_of_one_side_decide() -> None:
    group = {"type": "country", "values": [{"id": "US_1", "name": "US", "spend": 1.0}]}
    legacy = an_answer(a_row("campaign", 1, breakdowns=[group]))
    assert compared(legacy, an_answer(a_row("campaign", 1))).outcome == "mismatched"
    lacking = an_answer(a_row("campaign", 1))
    del lacking["data"][0]["breakdowns"]
    assert only(compared(legacy, lacking)).kind == "missing_key"


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        (
            {"breakdown_data": [{"breakdown_value": value, "spend": 10.0} for value in "AB"]},
            "data.*.breakdown_data.*.spend",
        ),
        (
            {"breakdowns": [{"type": "c", "values": [{"id": i, "spend": 10.0} for i in "AB"]}]},
            "data.*.breakdowns.*.values.*.spend",
        ),
        (
            {"sparkline_data": [{"date": day, "spend": 10.0} for day in ("d1", "d2")]},
            "data.*.sparkline_data.*.spend",
        ),
    ],
)
def test_rows_within_a_row_are_aligned_by_their_own_key(rows: Document, path: str) -> None:
    control = an_answer(a_row("campaign", 1, **copy.deepcopy(rows)))
    candidate = copy.deepcopy(control)
    (name,) = rows
    inner = candidate["data"][0][name]
    if name == "breakdowns":
        inner = inner[0]["values"]
    inner.reverse()
    inner[0]["spend"] = 20.0
    kinds = {one.kind: one for one in compared(control, candidate).differences}
    assert set(kinds) == {"order", "value"}
    assert (kinds["value"].path, kinds["value"].level) == (path, "campaign")
    assert kinds["value"].is_deciding


def test_id_lists_are_sets_and_ids_are_text() -> None:
    details = {"user_details": {"trials": ["a", "b", "b"]}, "trial_user_ids": [1, 2]}
    same = {"user_details": {"trials": ["b", "a"]}, "trial_user_ids": ["2", "1"]}
    other = {"user_details": {"trials": ["b", "c"]}, "trial_user_ids": [1, 2, 3]}
    control = an_answer(a_row("campaign", 1, **details))
    assert compared(control, an_answer(a_row("campaign", 1, **same))).outcome == "matched"
    result = compared(control, an_answer(a_row("campaign", 1, **other)))
    assert result.outcome == "ignored"
    assert {one.kind for one in result.differences} == {"set"}
    assert {one.control for one in result.differences} == {"list of 3", "list of 2"}


def test_ids_align_as_text() -> None:
    control = an_answer(a_row("campaign", 1, id=17, campaign_id=17))
    candidate = an_answer(a_row("campaign", 1, id="17", campaign_id="17"))
    assert compared(control, candidate).outcome == "matched"
    candidate["data"][0]["campaign_id"] = "18"
    assert only(compared(control, candidate)).kind == "type"


@pytest.mark.parametrize(
    ("other", "kind"),
    [([2.001, 1], "value"), ([2, 1], "order"), (["1", 2], "type"), ([1], "value")],
)
def test_other_lists_are_compared_in_order(other: list[Any], kind: str) -> None:
    control = an_answer(a_row("campaign", 1, spread=[1, 2]))
    result = compared(control, an_answer(a_row("campaign", 1, spread=other)))
    assert (only(result).kind, only(result).path) == (kind, "data.*.spread")
    assert compared(control, an_answer(a_row("campaign", 1, spread=[1.001, 2.0]))).outcome == (
        "matched"
    )


def test_percent_against_fraction_is_one_difference_that_decides_nothing() -> None:
    control = an_answer(*(a_row("campaign", n, roas=(n + 1) / 100) for n in range(1, 50)))
    candidate = an_answer(*(a_row("campaign", n, roas=float(n + 1)) for n in range(1, 50)))
    for rules in (RULES, rules_with(deciding=["roas"])):
        result = compared(control, candidate, rules)
        assert result.outcome == "ignored"
        one = only(result)
        assert (one.kind, one.path, one.count, one.is_deciding) == (
            "unit",
            "data.*.roas",
            49,
            False,
        )
        assert one.candidate == pytest.approx(one.control * 100)  # type: ignore[operator]


def test_a_unit_is_one_only_when_every_pair_is() -> None:
    rates = [(0.1, 10.0), (0.2, 20.0), (0.3, 60.0)]
    control = an_answer(*(a_row("campaign", n, roas=a) for n, (a, _) in enumerate(rates)))
    candidate = an_answer(*(a_row("campaign", n, roas=b) for n, (_, b) in enumerate(rates)))
    one = only(compared(control, candidate))
    assert (one.kind, one.count, one.candidate) == ("value", 3, 60.0)
    # Percents here and fractions there in one place are no unit either.
    for row, rate in zip(candidate["data"], (10.0, 0.002, 30.0), strict=True):
        row["roas"] = rate
    assert only(compared(control, candidate)).kind == "value"


def test_a_rate_that_is_zero_on_one_side_is_a_value_beside_the_unit() -> None:
    control = an_answer(a_row("campaign", 1, roas=0.1), a_row("campaign", 2, roas=0))
    candidate = an_answer(a_row("campaign", 1, roas=10.0), a_row("campaign", 2, roas=10.0))
    result = compared(control, candidate)
    assert {(one.kind, one.count) for one in result.differences} == {("unit", 1), ("value", 1)}


def test_deciding_money_a_hundredfold_is_no_unit() -> None:
    result = changed(lambda doc: doc["data"][0].update(spend=10_000.0))
    assert (result.outcome, only(result).kind) == ("mismatched", "value")


def test_differences_are_grouped_with_the_worst_row() -> None:
    def spoil(doc: Document) -> None:
        for number, row in enumerate(every_row(doc)):
            row["clicks"] = 60 + number

    result = changed(spoil, an_answer(*(a_row("campaign", n) for n in range(20))))
    one = only(result)
    assert (one.count, one.control, one.candidate) == (20, 50, 79)
    assert one.relative_error == pytest.approx(29 / 79)


def test_differences_are_bounded_and_those_that_decide_come_first() -> None:
    control = an_answer(*(a_row("campaign", n) for n in range(3)))
    candidate = copy.deepcopy(control)
    for row in candidate["data"]:
        row |= {f"more_{n}": n for n in range(5000)}
    candidate["data"][2]["spend"] = 0
    result = compared(control, candidate)
    assert len(result.differences) == MOST
    assert result.outcome == "mismatched"
    assert [one.is_deciding for one in result.differences[:2]] == [True, False]
    del candidate["data"][2]["spend"]
    assert compared(control, candidate).is_structural


def test_what_is_shown_is_short() -> None:
    control = an_answer(a_row("campaign", 1, text="a" * 999, many=[1, 2, 3], deep={"a": 1}))
    candidate = an_answer(a_row("campaign", 1, text="b" * 999, many=5, deep=6))
    shown = {
        one.field: (one.control, one.candidate) for one in compared(control, candidate).differences
    }
    assert shown == {
        "text": ("a" * LONGEST_TEXT, "b" * LONGEST_TEXT),
        "many": ("list of 3", 5),
        "deep": ("object of 1", 6),
    }


def nested(depth: int, leaf: object, *, is_list: bool) -> object:
    for _ in range(depth):
        leaf = [leaf] if is_list else {"a": leaf}
    return leaf


@pytest.mark.parametrize("is_list", [True, False])
def test_no_depth_is_too_deep(is_list: bool) -> None:
    deep = nested(100_000, 1, is_list=is_list)
    for control in (deep, an_answer(a_row("campaign", 1, deep=deep))):
        assert compared(control, nested(100_000, 2, is_list=is_list)).outcome == "mismatched"
        result = compared(control, control)
        assert only(result).control == "nested too deep"
        assert result.outcome == "mismatched"


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        7,
        "text",
        [],
        [1, None],
        {},
        {"data": {}},
        {"data": 5},
        {"data": [[], [[]], None, 1]},
        {"data": [{}, {}]},
        {"data": [{"id": None}, {"id": []}, {"id": True}, {"id": math.nan}, {"id": 10**5000}]},
        {"data": [{"id": "campaign_1", "children": {"id": 1}}, "campaign_1"]},
        {"data": [{"id": "campaign_1", "children": [None], "spend": {}, "breakdowns": [[]]}]},
        {"data": [{"id": "\ud800", "\ud800": math.inf, "": 1, "a.b.*": 2}]},
    ],
)
def test_hostile_answers_are_differences(hostile: object) -> None:
    good = a_tree()
    assert compared(good, hostile).outcome == "mismatched"
    # What has nothing lacks nothing of the other.
    assert compared(hostile, good).outcome == ("ignored" if hostile == {} else "mismatched")
    assert compared(hostile, copy.deepcopy(hostile)).outcome == "matched"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "data", "children", "spend", "roas", "x"]), inner)
    ),
)


@given(JSON, JSON)
def test_no_json_raises_and_anything_matches_itself(control: object, candidate: object) -> None:
    result = compared(control, candidate)
    assert (result.outcome == "mismatched") == any(one.is_deciding for one in result.differences)
    assert compared(control, copy.deepcopy(control)).outcome == "matched"
    assert compared({"data": [control]}, {"data": [candidate]}) is not None


NUMBERS = st.sampled_from(
    [0, 0.0, 0.2, 0.201, 1, 1.0, 1.005, 2, 20, 20.0, 100, 100.5, 101, 102, -3]
)
VALUES = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.sampled_from([None, "7", True]))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "spend": VALUES,
        "clicks": VALUES,
        "roas": NUMBERS,
        "name": st.sampled_from(["a", "b"]),
        "entity_id": st.just("1"),
        "user_ids": st.lists(st.sampled_from([1, "1", 2]), max_size=3),
        "nested": st.dictionaries(st.sampled_from(["profit", "other"]), NUMBERS),
    },
)


def rows_of(below: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Document]]:
    row = st.builds(
        lambda number, fields, children: {"id": number, **fields, **children},
        st.sampled_from(["1", "2", 3]),
        FIELDS,
        st.fixed_dictionaries({}, optional={"children": below}),
    )
    return st.lists(row, max_size=4)


ANSWERS = st.fixed_dictionaries(
    {"data": rows_of(rows_of(rows_of(rows_of(st.just([])))))},
    optional={"success": st.just(True), "metadata": st.dictionaries(st.text(), NUMBERS)},
)


@settings(max_examples=300)
@given(ANSWERS, ANSWERS, st.integers(1, 3))
def test_what_is_found_is_what_the_oracle_expects(
    control: Document, candidate: Document, depth: int
) -> None:
    rules = rules_with(
        deciding=sorted(oracle.DECIDING),
        fields={name: {"relative": 0, "floor": 0} for name in oracle.EXACT},
    )
    expected = oracle.expect(control, candidate, depth)
    result = compared(control, candidate, rules, a_query(depth=depth))
    found = Counter({(one.path, one.kind): one.count for one in result.differences})
    assert found == expected.counts
    assert result.outcome == expected.outcome
    assert result.is_structural == any(kind in oracle.STRUCTURAL for _, kind in expected.counts)


def test_a_full_tree_takes_a_fraction_of_a_second() -> None:
    fields = {f"field_{n}": n * 1.5 for n in range(38)}
    control = an_answer(
        *(
            a_row(
                "campaign",
                c,
                *(
                    a_row(
                        "adset", c * 6 + s, *(a_row("ad", a, **fields) for a in range(3)), **fields
                    )
                    for s in range(6)
                ),
                **fields,
            )
            for c in range(100)
        )
    )
    candidate = copy.deepcopy(control)
    for row in every_row(candidate):
        row.update({name: row[name] * 1.5 for name in fields})
    started = time.process_time()
    result = compared(control, candidate)
    spent_s = time.process_time() - started
    assert result.rows == 2500
    assert spent_s < 2, "it takes some 0.15 s: ten times as much is another algorithm"
