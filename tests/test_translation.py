"""Records of the legacy as rows of the dashboard shape, by what both shapes declare."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from proxy.query import Query
from proxy.shapes import make_shapes
from proxy.translation import Translated, translate_records

DAY = date(2024, 1, 1)
QUERY = Query("dashboard", DAY, DAY, "campaign")
FIELDS = {
    "mixpanel_trials_started": 7,
    "mixpanel_purchases": 2,
    "trial_conversion_rate": 0.155,
    "trial_refund_rate": 0.1,
    "purchase_refund_rate": 0.05,
    "spend": 10.5,
    "estimated_revenue_adjusted": 21.0,
    "profit": 10.5,
    "roas": 2.0,
}


def record(record_id: str, **more: Any) -> dict[str, Any]:
    return {"id": record_id, "name": record_id.title(), **FIELDS, **more}


def translated(
    records: Sequence[object], query: Query = QUERY, **fields: dict[str, str]
) -> Translated:
    shapes = make_shapes(fields)
    return translate_records(query, records, shapes["analytics"], shapes["dashboard"])


def test_each_field_comes_from_the_legacys_field_of_the_same_measure() -> None:
    found = translated([record("campaign_1")])
    assert found.records == [
        {
            "id": "campaign_1",
            "entity_type": "campaign",
            "name": "Campaign_1",
            "trials": 7,
            "trial_conversion_rate": 15.5,
            "trial_refund_rate": 10.0,
            "purchases": 2,
            "purchase_refund_rate": 5.0,
            "spend": 10.5,
            "estimated_revenue": 21.0,
            "profit": 10.5,
            "roas": 2.0,
            "children": [],
            "breakdown_data": [],
        }
    ]
    assert found.lacking == ()


def test_another_of_its_spellings_will_do() -> None:
    sent = record("campaign_1", trial_users_count=7, avg_trial_conversion_rate=0.155)
    del sent["mixpanel_trials_started"], sent["trial_conversion_rate"]
    (row,) = translated([sent]).records
    assert (row["trials"], row["trial_conversion_rate"]) == (7, 15.5)


@pytest.mark.parametrize("value", [None, "7", True, [1]])
def test_what_is_no_number_is_zero_and_named_as_lacking(value: object) -> None:
    found = translated([record("campaign_1", spend=value)])
    assert found.records[0]["spend"] == 0.0
    assert found.lacking == ("spend",)


def test_what_one_record_has_is_not_lacking() -> None:
    assert translated([record("a"), record("b", spend=None)]).lacking == ()
    assert translated([]).lacking == ()


def test_child_rates_in_percent_are_left_as_they_are() -> None:
    child = record("adset_1", trial_conversion_rate=15.5)
    (row,) = translated([record("campaign_1", children=[child])]).records
    assert row["trial_conversion_rate"] == row["children"][0]["trial_conversion_rate"] == 15.5


def test_an_adset_that_is_repeated_for_each_of_its_ads_counts_once() -> None:
    children = [record("adset_1"), record("adset_1"), record("adset_2")]
    (row,) = translated([record("campaign_1", children=children)]).records
    assert [child["id"] for child in row["children"]] == ["adset_1", "adset_2"]
    assert {child["entity_type"] for child in row["children"]} == {"adset"}


def test_only_as_many_levels_as_were_asked_for_are_sent() -> None:
    sent = [record("campaign_1", children=[record("adset_1", children=[record("ad_1")])])]
    for depth, ids in ((1, []), (2, ["adset_1"]), (3, ["adset_1", "ad_1"])):
        below = translated(sent, replace(QUERY, depth=depth)).records[0]["children"]
        grand = [ad["id"] for row in below for ad in row["children"]]
        assert [row["id"] for row in below] + grand == ids


def test_rows_are_ordered_as_ours_are() -> None:
    sent = [
        record("campaign_9", estimated_revenue_adjusted=1.0),
        record("campaign_10", estimated_revenue_adjusted=1.0),
        record("campaign_1", estimated_revenue_adjusted=2.0),
    ]
    ids = [row["id"] for row in translated(sent).records]
    assert ids == ["campaign_1", "campaign_10", "campaign_9"]


def test_the_breakdown_that_was_asked_for_is_taken_from_the_older_spelling() -> None:
    breakdowns = [
        {"type": "device", "values": [{"name": "ios", **FIELDS}]},
        {
            "type": "country",
            "values": [
                {"name": "US", **FIELDS, "estimated_revenue_adjusted": 1.0},
                {"name": "DE", **FIELDS},
                "rubbish",
            ],
        },
        "rubbish",
    ]
    query = replace(QUERY, breakdown="country")
    (row,) = translated([record("campaign_1", breakdowns=breakdowns)], query).records
    parts = [(part["breakdown_type"], part["breakdown_value"]) for part in row["breakdown_data"]]
    assert parts == [("country", "DE"), ("country", "US")]
    assert row["breakdown_data"][0]["trial_conversion_rate"] == 15.5
    assert "name" not in row["breakdown_data"][0]


def test_a_sparkline_is_passed_on_where_one_was_asked_for() -> None:
    sent = [record("campaign_1", sparkline_data=[{"date": "2024-01-01"}])]
    assert "sparkline_data" not in translated(sent).records[0]
    (row,) = translated(sent, replace(QUERY, include_sparkline=True)).records
    assert row["sparkline_data"] == [{"date": "2024-01-01"}]


def test_a_sparkline_that_the_legacy_does_not_send_is_14_days_of_zeros_and_is_named() -> None:
    asked = replace(QUERY, include_sparkline=True)
    answer = translated([record("campaign_1")], asked)
    days = answer.records[0]["sparkline_data"]
    assert len(days) == 14
    assert days[-1]["date"] == asked.end.isoformat()
    assert {(day["rolling_1d_spend"], day["has_data"]) for day in days} == {(0.0, False)}
    assert "sparkline_data" in answer.lacking
    assert "sparkline_data" not in translated([record("campaign_1")]).lacking


def test_rubbish_among_the_records_is_left_out() -> None:
    found = translated(["x", None, 3, record("campaign_1", children="x", breakdowns=7)])
    assert [row["id"] for row in found.records] == ["campaign_1"]


def test_a_field_of_the_operators_that_the_legacy_does_not_know_is_zero_and_named() -> None:
    found = translated([record("campaign_1")], dashboard={"cost_per_click": "spend / clicks"})
    assert found.records[0]["cost_per_click"] == 0.0
    assert found.lacking == ("cost_per_click",)
