"""Which steps of SQLite's plan read more than the range of a question."""

import pytest

from proxy.backends.plans import slow_in, walks_in


@pytest.mark.parametrize(
    "step",
    [
        "SCAN d",
        "SCAN d USING INDEX idx_daily_metrics_entity_type",
        "SEARCH d USING INDEX idx_daily_metrics_entity_type (entity_type=?)",
        "SEARCH d USING AUTOMATIC COVERING INDEX (date=? AND entity_type=?)",
        "SCAN p",
        "SEARCH p USING INDEX x (ad_id=?)",
        "SCAN q",
        "SCAN meta.ad_performance_daily",
        "    SCAN d",
    ],
)
def test_a_step_that_reads_history_walks(step: str) -> None:
    assert list(walks_in([step])) == [step.strip()]


@pytest.mark.parametrize(
    "step",
    [
        "SEARCH d USING INDEX i (date=? AND entity_type=?)",
        "SEARCH d USING INDEX i (entity_type=? AND entity_id=? AND date>? AND date<?)",
        "SEARCH p USING INDEX i (ad_id=? AND date>? AND date<?)",
        "SEARCH q USING COVERING INDEX i (ad_id>?)",
        "SEARCH meta.ad_performance_daily_country USING COVERING INDEX i",
        "SCAN days",
        "SEARCH own USING AUTOMATIC COVERING INDEX (t=? AND i=?) LEFT-JOIN",
        "MATERIALIZE own",
        "USE TEMP B-TREE FOR GROUP BY",
    ],
)
def test_a_step_that_stays_in_the_range_does_not(step: str) -> None:
    assert list(walks_in([step])) == []


def test_a_hierarchy_read_whole_for_each_row_is_slow() -> None:
    steps = ["SCAN h", "SEARCH h USING INDEX i (adset_id=?)", "SCAN placed"]
    assert list(slow_in(steps)) == ["SCAN h"]
