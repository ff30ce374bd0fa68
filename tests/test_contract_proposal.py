"""What our records lack is proposed by value, and works when it is pasted."""

import math
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.measures import MEASURES
from proxy.query import Query
from proxy.rollout.compare import compare
from proxy.rollout.contract import Lacking, Proposal, propose
from proxy.rollout.rules import rules_of
from proxy.settings import Settings, load_settings
from proxy.shapes import Cell, make_shapes

Row = dict[str, Any]
FIELDS = make_shapes()["analytics"].fields


def our_row(number: int) -> Row:
    """Each measure has numbers of its own, so that none is taken for another."""
    values: Row = {
        name: (number + 2) ** 2 * (place * 7 + 3) for place, name in enumerate(MEASURES, start=1)
    }
    values |= {name: round(values[name] / 9973, 6) for name in MEASURES if "ra" in name}
    fields = {name: values[cell.measure] for name, cell in FIELDS.items()}
    fields |= {"spend": round(11.37 * number**2 + 3.21, 2), "clicks": 13 * number + 17}
    return {"id": f"campaign_{number}", "name": f"Name {number}", **fields, "children": []}


def sample(*changes: Callable[[Row], object], rows: int = 6) -> tuple[object, object]:
    """Our rows, and the same as the legacy has them."""
    ours = [our_row(number) for number in range(rows)]
    legacy = [dict(row) for row in ours]
    for row in legacy:
        for change in changes:
            change(row)
    return {"data": legacy}, {"data": ours}


def adding(name: str, value: Callable[[Row], object]) -> Callable[[Row], object]:
    return lambda row: row.update({name: value(row)})


def proposed(value: Callable[[Row], object], rows: int = 6) -> tuple[str, ...]:
    (one,) = propose([sample(adding("new", value), rows=rows)]).lacking
    assert (one.name, one.rows) == ("new", rows)
    return one.expressions


def settings_with(text: str, folder: Path) -> Settings:
    config = folder / "proxy.toml"
    config.write_text(text, encoding="utf-8")
    return load_settings(config, {}, {})


def test_every_measure_is_in_our_rows() -> None:
    assert {cell.measure for cell in FIELDS.values()} == MEASURES.keys()


@pytest.mark.parametrize(
    ("field", "measure"),
    [("spend", "spend"), ("mixpanel_purchases", "purchases"), ("roas", "roas")],
)
def test_a_measure_of_another_name_is_found_by_its_values(field: str, measure: str) -> None:
    assert proposed(lambda row: row[field]) == (measure,)


def test_one_measure_over_another_is_found_with_the_digits_of_the_legacy() -> None:
    for digits in (2, 4, 17):

        def cost(row: Row, digits: int = digits) -> float:
            return round(float(row["spend"]) / float(row["clicks"]), digits)

        assert proposed(cost) == ("spend / clicks",)


def test_money_that_the_legacy_rounds_to_whole_numbers_is_found() -> None:
    assert proposed(lambda row: round(row["spend"])) == ("spend",)


def test_a_percent_is_found() -> None:
    assert proposed(lambda row: round(row["roas"] * 100, 2)) == ("roas %",)


def test_nothing_over_zero_is_zero() -> None:
    def cost(row: Row) -> float:
        return row["spend"] / row["clicks"] if row["clicks"] else 0

    legacy, ours = sample()
    for side in (legacy, ours):
        side["data"][5]["clicks"] = 0  # type: ignore[index]
    for row in legacy["data"]:  # type: ignore[index]
        row["new"] = cost(row)
    assert propose([(legacy, ours)]).lacking[0].expressions == ("spend / clicks",)


def test_measures_of_equal_values_are_all_named() -> None:
    legacy, ours = sample(adding("new", lambda row: row["spend"]))
    for side in (legacy, ours):
        for row in side["data"]:  # type: ignore[index]
            row["profit"] = row["spend"]
    proposal = propose([(legacy, ours)])
    assert proposal.lacking[0].expressions == ("spend", "profit")
    assert 'new = "spend"  # or profit' in proposal.as_toml().splitlines()


@pytest.mark.parametrize(
    "value",
    [
        lambda row: row["spend"] + (row["id"] == "campaign_5"),
        lambda row: None if row["id"] == "campaign_5" else row["spend"],
        lambda row: row["mixpanel_purchases"] + 1,
        lambda row: 0,
        lambda row: 7.5,
        lambda row: str(row["spend"]),
        lambda row: True,
        lambda row: math.inf,
        lambda row: 10**400,
        lambda row: [1],
    ],
)
def test_what_is_not_equal_in_every_row_is_not_proposed(value: Callable[[Row], object]) -> None:
    assert proposed(value) == ()


def test_few_values_prove_nothing() -> None:
    assert proposed(lambda row: row["spend"], rows=2) == ()
    assert proposed(lambda row: row["spend"], rows=3) == ("spend",)
    # Nor do numbers that much else would round to.
    assert proposed(lambda row: round(row["spend"] / row["profit"])) == ()


def test_all_samples_have_to_agree() -> None:
    good = sample(adding("new", lambda row: row["spend"]))
    other = sample(adding("new", lambda row: row["profit"]))
    assert propose([good, good]).lacking[0].expressions == ("spend",)
    assert propose([good, other]).lacking[0].expressions == ()


def test_fields_of_children_and_breakdowns_are_found() -> None:
    def nested(add: Callable[[Row], object]) -> object:
        children = [our_row(number) for number in range(4)]
        values = [our_row(number) for number in range(4, 8)]
        for row in (*children, *values):
            add(row)
        groups = [{"type": "country", "values": values}]
        return {"data": [{"id": "campaign_1", "children": children, "breakdowns": groups}]}

    ours = nested(lambda row: None)
    legacy = nested(lambda row: row.update(cost=row["spend"]))
    assert propose([(legacy, ours)]).lacking == (Lacking("cost", ("spend",), 185.13, 8),)


def test_fields_that_only_ours_have_are_patterns_to_ignore() -> None:
    def drop(row: Row) -> None:
        del row["total_users"]
        if row["id"] == "campaign_0":
            del row["clicks"]

    legacy, ours = sample(drop)
    for row in ours["data"]:  # type: ignore[index]
        row |= {"entity_id": "1", "breakdown_data": [], "breakdowns": []}
    assert propose([(legacy, ours)]).added == ("total_users",)


def test_what_is_proposed_works_when_it_is_pasted(tmp_path: Path) -> None:
    legacy, ours = sample(
        adding("cost", lambda row: row["spend"]),
        adding("cost per click", lambda row: row["spend"] / row["clicks"]),
        adding("roas_percent", lambda row: row["roas"] * 100),
        adding("mood", lambda row: 'a "good"\n one'),
        adding("campaign_name", lambda row: row["spend"]),
        lambda row: row.pop("total_users"),
    )
    text = propose([(legacy, ours)]).as_toml()
    settings = settings_with(text, tmp_path)
    fields = make_shapes(settings.extra_fields)["analytics"].fields
    assert fields["cost"] == Cell("spend")
    assert fields["cost per click"] == Cell("spend", "clicks")
    assert fields["roas_percent"] == Cell("roas", is_percent=True)
    assert "campaign_name" not in fields
    assert '# mood: no measure of ours has its values, such as text "a \\"good\\"' in text
    assert settings.compare.ignore == ("metadata.*", "total_users")
    # With these fields and patterns nothing is left that decides.
    for row in ours["data"]:  # type: ignore[index]
        row |= dict.fromkeys(("cost", "cost per click", "roas_percent"), row["spend"])
        row |= {"mood": "", "campaign_name": 0}
    rules = rules_of(settings.compare, frozenset())
    query = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign")
    assert not compare(ours, legacy, rules, query=query).is_structural


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_name_and_no_text_breaks_the_file(name: str, example: str) -> None:
    text = Proposal((Lacking(name, ("spend",), 1, 1),), (name,), 1).as_toml()
    found = tomllib.loads(text)
    assert found["shapes"]["analytics"]["fields"] == {name: "spend"}
    assert found["compare"]["ignore"] == ["metadata.*", name]
    unknown = Proposal((Lacking(name, (), example, 1),), (), 1).as_toml()
    assert tomllib.loads(unknown) == {}


def test_that_nothing_is_to_propose_is_said() -> None:
    assert "# Their records have the same fields." in propose([sample()]).as_toml()
    assert propose([]) == Proposal()
    assert propose([(None, []), ({"data": 3}, {"data": [4]})]) == Proposal()
    assert "nothing can be said" in Proposal().as_toml()


def test_names_are_bounded_in_number_and_length() -> None:
    row = {"id": "1", "a" * 101: 1, **{f"name_{n}": n for n in range(1000)}}
    one_sided = propose([({"data": [row]}, {"data": [{"id": "1"}]})])
    assert len(one_sided.lacking) == 200
    assert len(propose([({"data": [{"id": "1"}]}, {"data": [row]})]).added) == 200
