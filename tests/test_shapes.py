"""The two shapes as declarations, and the fields that an operator adds to them."""

import pytest

from proxy.errors import SettingsError
from proxy.measures import Unit
from proxy.shapes import ORDER_MEASURE, Cell, make_shapes, parse_cell


def test_each_cell_is_computed_once_and_the_one_that_orders_comes_first() -> None:
    for shape in make_shapes().values():
        assert shape.cells[0] == Cell(ORDER_MEASURE)
        assert len(shape.cells) == len(set(shape.cells))
        assert set(shape.fields.values()) <= set(shape.cells)


def test_rates_are_percent_in_the_dashboard_shape_and_fractions_in_the_other() -> None:
    shapes = make_shapes()
    names = ("trial_conversion_rate", "trial_refund_rate", "purchase_refund_rate")
    for name in names:
        assert shapes["dashboard"].fields[name] == Cell(name, is_percent=True)
        assert shapes["analytics"].fields[name] == Cell(name)


@pytest.mark.parametrize(
    ("cell", "unit", "zero"),
    [
        (Cell("trials"), Unit.COUNT, 0),
        (Cell("spend"), Unit.MONEY, 0.0),
        (Cell("roas"), Unit.FRACTION, 0.0),
        (Cell("trial_refund_rate", is_percent=True), Unit.FRACTION, 0.0),
        (Cell("spend", "clicks"), Unit.FRACTION, 0.0),
    ],
)
def test_a_cell_is_rounded_by_its_unit(cell: Cell, unit: Unit, zero: float) -> None:
    assert cell.unit is unit
    assert cell.zero == zero
    assert type(cell.zero) is type(zero)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("spend", Cell("spend")),
        (" meta_spend ", Cell("spend")),
        ("spend/clicks", Cell("spend", "clicks")),
        ("spend / mixpanel_purchases", Cell("spend", "purchases")),
        ("estimated_revenue_adjusted", Cell("adjusted_revenue")),
        ("roas %", Cell("roas", is_percent=True)),
    ],
)
def test_an_expression_names_measures_columns_or_fields(text: str, cell: Cell) -> None:
    declared = {
        "mixpanel_purchases": "purchases",
        "estimated_revenue_adjusted": "adjusted_revenue",
    }
    assert parse_cell("here", text, declared) == cell


@pytest.mark.parametrize("text", ["", "spend + clicks", "spend / clicks / trials", "1", "a; DROP"])
def test_anything_else_is_refused_by_the_place_it_stands_in(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^shapes\.analytics\.fields\.mine"):
        make_shapes({"analytics": {"mine": text}})


def test_an_unknown_measure_is_answered_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no measure is called 'cost'.*'spend'"):
        make_shapes({"dashboard": {"mine": "cost"}})


@pytest.mark.parametrize("name", ["id", "children", "breakdowns", "sparkline_data"])
def test_a_field_may_not_take_the_place_of_what_a_row_is(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"fields\.{name}: the row has a field of this name"):
        make_shapes({"analytics": {name: "spend"}})


def test_every_change_of_a_shape_changes_its_declaration() -> None:
    plain = make_shapes()["analytics"].declaration
    texts = {
        make_shapes({"analytics": extra})["analytics"].declaration
        for extra in ({"a": "spend"}, {"b": "spend"}, {"a": "spend / clicks"}, {"a": "roas %"})
    }
    assert len(texts | {plain}) == 5
    assert make_shapes({"dashboard": {"a": "spend"}})["analytics"].declaration == plain
