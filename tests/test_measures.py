"""The catalogue holds together: what a measure leans on is there and of the right kind."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.measures import MEASURES, REQUIRED_MEASURES, Unit, measure_named

SCHEMA = Path(__file__).parent.parent / "proxy" / "demo" / "schema.sql"


def test_every_measure_leans_on_sums_only() -> None:
    for measure in MEASURES.values():
        for name in measure.ratio or ():
            assert MEASURES[name].is_sum, measure
        for name in measure.weighting:
            # A refund rate is weighed by trials and their conversion, day by day.
            assert MEASURES[name].is_sum or MEASURES[name].weighting == ("trials",), measure
        if measure.narrow is not None:
            left, operator, right = measure.narrow
            assert operator in "=-/"
            assert MEASURES[left].is_sum, measure
            assert MEASURES[right].is_sum, measure


def test_only_fractions_are_not_summed() -> None:
    for measure in MEASURES.values():
        assert measure.is_sum == (measure.unit is not Unit.FRACTION), measure


def test_every_column_of_the_catalogue_is_one_of_the_pipelines() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA.read_text(encoding="utf-8"))
        listed = db.execute("SELECT name FROM pragma_table_info('daily_mixpanel_metrics')")
        known = {name for (name,) in listed}
    for measure in MEASURES.values():
        assert measure.columns[0] in known, measure


def test_no_column_belongs_to_two_measures() -> None:
    columns = [column for measure in MEASURES.values() for column in measure.columns]
    assert len(columns) == len(set(columns))


def test_what_even_a_narrow_table_must_have_is_summed() -> None:
    assert set(REQUIRED_MEASURES) == {"trials", "purchases", "estimated_revenue"}
    assert all(MEASURES[name].is_sum for name in REQUIRED_MEASURES)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("spend", "spend"),
        ("meta_spend", "spend"),
        ("mixpanel_trial_count", "trials"),
        ("trial_users_count", "trials"),
        ("estimated_roas", "roas"),
    ],
)
def test_a_measure_is_found_by_its_name_and_by_its_columns(word: str, name: str) -> None:
    assert measure_named(word).name == name


def test_no_other_word_names_a_measure() -> None:
    with pytest.raises(KeyError):
        measure_named("cost")
