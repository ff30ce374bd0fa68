"""Rows of a statement to nested records, whatever order they come in."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from random import Random
from typing import Any

import pytest

from proxy.query import Query
from proxy.section import HEAD_WIDTH, Row, Section
from proxy.shapes import ORDER_MEASURE, Cell, Shape, make_shapes
from proxy.sparkline import sparkline_days
from proxy.tree import Tree, build_tree, display_name

END = date(2024, 1, 31)
QUERY = Query("analytics", date(2024, 1, 1), END, "campaign")
FLAT = Query("analytics", date(2024, 1, 1), END, "ad")
STAMP = "2024-02-01 03:00:00"

# Two cells: the adjusted revenue, which orders, and the trials.
FIELDS = {"trials": Cell("trials"), "revenue": Cell(ORDER_MEASURE)}
SHAPE = replace(make_shapes()["analytics"], fields=FIELDS)


def own(
    level: str,
    entity_id: object,
    revenue: float = 0.0,
    *,
    name: str | None = None,
    adset: object = None,
    rows: int = 1,
    stamp: str = STAMP,
) -> Row:
    return (Section.OWN, level, entity_id, name, adset, rows, stamp, revenue, 7)


def adset(entity_id: object, campaign: object, name: str | None = None) -> Row:
    return (Section.ADSET, "adset", entity_id, name, campaign, None, None, None, None)


def campaign(entity_id: object, name: str | None = None) -> Row:
    return (Section.CAMPAIGN, "campaign", entity_id, name, None, None, None, None, None)


def part(level: str, entity_id: object, value: object, revenue: float, stamp: str = STAMP) -> Row:
    return (Section.BREAKDOWN, level, entity_id, value, None, 2, stamp, revenue, 3)


def built(
    rows: Iterable[Row], query: Query = QUERY, shape: Shape = SHAPE, *, has_hierarchy: bool = True
) -> Tree:
    return build_tree(query, shape, rows, has_hierarchy=has_hierarchy)


def outline(records: Sequence[dict[str, Any]]) -> list[Any]:
    """Ids, each followed by the outline of its children if it has any."""
    found: list[Any] = []
    for record in records:
        found.append(record["id"])
        if record["children"]:
            found.append(outline(record["children"]))
    return found


def test_rows_are_ordered_by_revenue_and_of_equals_by_the_text_of_the_id() -> None:
    rows = [own("ad", 9, 1.0), own("ad", 10, 1.0), own("ad", "b", 2.0), own("ad", "a", 0.0)]
    assert outline(built(rows, FLAT).records) == ["ad_b", "ad_10", "ad_9", "ad_a"]


def test_the_order_in_which_rows_come_does_not_matter() -> None:
    rows = [
        own("campaign", "1", 5.0),
        own("adset", "2", 5.0),
        own("adset", "3", 6.0),
        *(own("ad", str(number), number % 3, adset="2") for number in range(9)),
        adset("2", "1"),
        adset("3", "1"),
        campaign("1"),
        part("campaign", "1", "US", 1.0),
        part("campaign", "1", "DE", 1.0),
    ]
    query = replace(QUERY, breakdown="country")
    expected = built(rows, query)
    for seed in range(5):
        Random(seed).shuffle(rows)
        assert built(rows, query) == expected
    assert [record["breakdown_value"] for record in expected.records[0]["breakdown_data"]] == [
        "DE",
        "US",
    ]


def test_parents_without_rows_appear_with_zeros_two_levels_up() -> None:
    rows = [own("ad", "7", 3.0, adset="5"), adset("5", "1", "Set"), campaign("1", None)]
    tree = built(rows)
    assert outline(tree.records) == ["campaign_1", ["adset_5", ["ad_7"]]]
    (record,) = tree.records
    assert (record["name"], record["trials"]) == ("Unknown Campaign (1)", 0)
    assert record["children"][0]["name"] == "Set"
    assert tree.rows_read == {("daily", "campaign"): 0, ("daily", "adset"): 0, ("daily", "ad"): 1}
    assert tree.orphans == 0


def test_an_ad_belongs_where_its_adset_was_put() -> None:
    rows = [own("ad", "7", adset="5"), adset("5", "2", "Set"), campaign("2", "Camp")]
    (record,) = built(rows, FLAT).records
    assert (record["adset_id"], record["adset_name"]) == ("5", "Set")
    assert (record["campaign_id"], record["campaign_name"]) == ("2", "Camp")
    assert (record["ad_id"], record["entity_id"]) == ("7", "7")


def test_ids_meet_by_their_text() -> None:
    rows = [own("ad", 7, adset=5), own("adset", "5"), adset(5, "2"), own("campaign", 2)]
    rows.append(campaign("2"))
    assert outline(built(rows).records) == ["campaign_2", ["adset_5", ["ad_7"]]]


def test_what_no_hierarchy_row_names_is_counted_and_stands_on_its_own_level_only() -> None:
    rows = [own("campaign", "1"), own("adset", "5"), own("ad", "7"), adset("5", None)]
    tree = built(rows)
    assert outline(tree.records) == ["campaign_1"]
    assert tree.orphans == 2
    flat = built([own("ad", "7")], FLAT)
    assert outline(flat.records) == ["ad_7"]
    assert flat.records[0]["campaign_id"] is None
    assert flat.records[0]["campaign_name"] is None
    assert flat.orphans == 1


def test_without_a_hierarchy_there_is_one_level_and_no_parents() -> None:
    tree = built([own("adset", "5")], replace(QUERY, level="adset"), has_hierarchy=False)
    assert outline(tree.records) == ["adset_5"]
    assert tree.records[0]["campaign_id"] is None
    assert tree.rows_read == {("daily", "adset"): 1}


def test_what_was_read_is_counted_and_the_newest_of_it_named() -> None:
    rows = [
        own("ad", "1", rows=3, stamp="2024-02-01 03:00:00"),
        own("ad", "2", rows=4, stamp="2024-02-01T02:00:00"),
        part("ad", "1", "US", 1.0, stamp="2024-02-01 03:00:00.5"),
    ]
    tree = built(rows, replace(FLAT, breakdown="country"))
    assert tree.rows_read == {("daily", "ad"): 7, ("breakdown", "ad"): 2}
    assert tree.computed_at == "2024-02-01 03:00:00.5"
    assert built([], FLAT).computed_at is None


def test_the_older_spelling_of_breakdowns_repeats_the_rows() -> None:
    rows = [own("ad", "1"), part("ad", "1", "US", 1.0), part("ad", "1", "DE", 2.0)]
    (record,) = built(rows, replace(FLAT, breakdown="country")).records
    german = {"breakdown_type": "country", "breakdown_value": "DE", "trials": 3, "revenue": 2.0}
    american = {"breakdown_type": "country", "breakdown_value": "US", "trials": 3, "revenue": 1.0}
    assert record["breakdown_data"] == [german, american]
    values = [
        {"id": "DE_1", "name": "DE", **german},
        {"id": "US_1", "name": "US", **american},
    ]
    assert record["breakdowns"] == [{"type": "country", "values": values}]


def test_without_rows_of_the_breakdown_both_lists_are_empty() -> None:
    (record,) = built([own("ad", "1")], replace(FLAT, breakdown="country")).records
    assert record["breakdown_data"] == record["breakdowns"] == []


def test_a_sparkline_has_fourteen_days_those_without_rows_too() -> None:
    day = (Section.SPARKLINE, "ad", "1", "2024-01-30", 1, None, None, 4, 2, 3, 8.0, 12.0, 1.5)
    only_meta = (Section.SPARKLINE, "ad", "1", "2024-01-29", 0, None, None, 0, 0, 1, 5.0, 0.0, 0.0)
    padding = (None,) * 4
    rows = [(*own("ad", "1"), *padding), day, only_meta]
    (record,) = built(rows, replace(FLAT, include_sparkline=True)).records
    days = record["sparkline_data"]
    assert [days[0]["date"], days[-1]["date"], len(days)] == ["2024-01-18", "2024-01-31", 14]
    assert days[12] == {
        "date": "2024-01-30",
        "rolling_1d_roas": 1.5,
        "rolling_1d_spend": 8.0,
        "rolling_1d_revenue": 12.0,
        "rolling_1d_conversions": 2,
        "rolling_1d_trials": 4,
        "rolling_1d_meta_trials": 3,
        "rolling_window_days": 1,
        "has_data": True,
    }
    assert (days[11]["rolling_1d_spend"], days[11]["has_data"]) == (5.0, False)
    assert (days[13]["rolling_1d_spend"], days[13]["has_data"]) == (0.0, False)


def test_where_the_calendar_begins_a_sparkline_begins() -> None:
    query = Query("analytics", date(1, 1, 1), date(1, 1, 3), "ad", include_sparkline=True)
    assert sparkline_days(query) == ["0001-01-01", "0001-01-02", "0001-01-03"]


@pytest.mark.parametrize(
    ("level", "name", "shown"),
    [
        ("campaign", "Spring", "Spring"),
        ("campaign", None, "Unknown Campaign (1)"),
        ("adset", "", "Unknown Adset (1)"),
        ("ad", None, "Unknown Ad (1)"),
    ],
)
def test_an_entity_without_a_name_is_called_unknown(
    level: str, name: str | None, shown: str
) -> None:
    assert display_name(level, "1", name) == shown


def test_cells_stand_behind_the_head() -> None:
    assert len(own("ad", "1")) - len(SHAPE.cells) == HEAD_WIDTH
