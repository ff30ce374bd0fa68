"""The top level of an answer as bytes."""

from datetime import date

import orjson
import pytest

from proxy.document import WARNINGS, render, with_warning
from proxy.query import Query, ShapeName

START, END = date(2024, 1, 1), date(2024, 1, 31)


def test_the_dashboard_shape_counts_its_records_and_knows_no_clock() -> None:
    body = render(
        Query("dashboard", START, END, "campaign"),
        [{"id": "campaign_1"}],
        computed_at="2024-02-01 03:00:00",
        warnings=["Careful."],
    )
    assert orjson.loads(body) == {
        "success": True,
        "data": [{"id": "campaign_1"}],
        "metadata": {
            "total_records": 1,
            "query_time_ms": 0,
            "date_range": "2024-01-01 to 2024-01-31",
            "generated_at": "2024-02-01 03:00:00",
            "data_source": "pre_computed_optimized",
            "computed_at": "2024-02-01 03:00:00",
            "warnings": ["Careful."],
        },
    }


def test_the_analytics_shape_says_what_was_asked() -> None:
    body = render(Query("analytics", START, END, "adset"), [], computed_at=None, warnings=[])
    assert orjson.loads(body)["metadata"] == {
        "query_config": {
            "start_date": "2024-01-01",
            "end_date": "2024-01-31",
            "group_by": "adset",
            "breakdown": "all",
            "depth": 2,
            "include_sparkline": False,
        },
        "record_count": 0,
        "date_range": "2024-01-01 to 2024-01-31",
        "generated_at": None,
        "data_source": "pre_computed_optimized",
        "computed_at": None,
        "warnings": [],
    }


@pytest.mark.parametrize("shape", ["dashboard", "analytics"])
@pytest.mark.parametrize("warnings", [[], ["One."], ["]}}", 'A "quoted" one.']])
def test_one_more_warning_changes_nothing_else(shape: ShapeName, warnings: list[str]) -> None:
    body = render(
        Query(shape, START, END, "ad"), [{"a": "]}}"}], computed_at=None, warnings=warnings
    )
    warned = orjson.loads(with_warning(body, "stale"))
    assert warned["metadata"].pop("warnings") == [*warnings, WARNINGS["stale"]]
    plain = orjson.loads(body)
    del plain["metadata"]["warnings"]
    assert warned == plain


def test_a_warning_is_put_into_answers_only() -> None:
    with pytest.raises(ValueError, match="warnings"):
        with_warning(b'{"success":false,"error":"x"}', "stale")
