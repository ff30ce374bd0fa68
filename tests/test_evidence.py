"""Evidence: counters of the ledger, a baseline taken off, and marks to find when trouble began."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rollout.evidence import Evidence, Marks, counters_of, thinned
from proxy.rollout.tallies import (
    COMPARED,
    DROPPED,
    NOISE,
    OPTIMIZED_ERROR,
    OPTIMIZED_OK,
    STRUCTURAL,
    Tally,
    tally_of,
    tally_of_answer,
    tally_of_answers,
)
from tests.comparisons import a_comparison, a_difference, a_result

INFINITY = float("inf")


def of(*tallies: Tally) -> Evidence:
    evidence = Evidence.between(counters_of(tallies), {})
    assert evidence is not None
    return evidence


def test_comparisons_are_counted_with_what_they_came_to() -> None:
    evidence = of(
        tally_of(a_comparison()),
        tally_of(a_comparison(a_difference(is_deciding=False))),
        tally_of(a_comparison(a_difference(), noise=a_result())),
        tally_of(a_comparison(a_difference(kind="missing_key"))),
    )
    assert (evidence.compared, evidence.mismatched, evidence.structural) == (4, 2, 1)
    assert evidence.noise_compared == 1


def test_the_legacys_own_noise_is_counted_apart() -> None:
    noisy = a_result(a_difference(kind="type"))
    evidence = of(tally_of(a_comparison(noise=noisy)), tally_of(a_comparison(noise=a_result())))
    assert (evidence.compared, evidence.mismatched) == (2, 0)
    assert evidence.noise_compared == 2
    assert (evidence.noise_mismatched, evidence.noise_structural) == (1, 1)


def test_errors_are_answers_too_and_have_no_latency() -> None:
    evidence = of(tally_of_answer(True, 0.003), tally_of_answer(False, 0.0))
    assert (evidence.answers, evidence.errors, evidence.timed) == (2, 1, 1)


def test_only_what_came_since_the_baseline_counts() -> None:
    old = Tally({COMPARED: 100, STRUCTURAL: 7, NOISE: 10, OPTIMIZED_OK: 50, OPTIMIZED_ERROR: 3})
    new = tally_of(a_comparison()) + tally_of_answer(False, 0.0)
    evidence = Evidence.between(counters_of([old, new]), counters_of([old]))
    assert evidence == Evidence(compared=1, answers=1, errors=1)


def test_what_the_guard_has_no_use_for_is_in_no_baseline() -> None:
    tally = tally_of(a_comparison(a_difference())) + Tally({DROPPED: 5})
    assert counters_of([tally]).keys() == {COMPARED, "total|mismatched"}


@pytest.mark.parametrize("counters", [{}, {COMPARED: 99}, {COMPARED: 500, OPTIMIZED_OK: 4}])
def test_counters_below_the_baseline_are_of_an_emptied_ledger(counters: dict[str, float]) -> None:
    assert Evidence.between(counters, {COMPARED: 100, OPTIMIZED_OK: 5}) is None


@pytest.mark.parametrize(
    ("seconds", "limit_ms", "slower"),
    [
        (0.049, 50, 0),
        (0.05, 50, 0),
        (0.051, 50, 1),
        (0.09, 60, 0),  # Between 50 and 100: it may have taken 55.
        (0.11, 60, 1),
        (500.0, 50, 1),
        (0.0, 0.05, 0),
    ],
)
def test_slower_is_what_was_slower_for_sure(seconds: float, limit_ms: float, slower: int) -> None:
    assert of(tally_of_answer(True, seconds)).slower_than(limit_ms) == slower


@pytest.mark.parametrize(
    ("latencies", "p95_ms"),
    [
        ({}, None),
        ({0.05: 100}, 25 + 25 * 0.95),
        ({0.025: 95, 10.0: 5}, 25.0),
        ({0.025: 90, 0.1: 10}, 75.0),
        ({0.025: 50, INFINITY: 50}, 120_000.0),
    ],
)
def test_p95_is_estimated_within_its_bucket(
    latencies: dict[float, int], p95_ms: float | None
) -> None:
    assert of(tally_of_answers(latencies)).p95_ms == pytest.approx(p95_ms)


def test_an_edge_of_another_version_is_placed_among_ours() -> None:
    evidence = Evidence(latencies={75.0: 10})
    assert evidence.slower_than(50) == 10
    assert evidence.slower_than(60) == 0


def test_a_mark_is_left_at_each_look_and_shows_what_came_since() -> None:
    marks = Marks()
    assert marks.since_each(1.0, {COMPARED: 10}) == []
    assert marks.since_each(1.0, {COMPARED: 10}) == [Evidence()]
    assert marks.since_each(1.0, {COMPARED: 30}) == [Evidence(compared=20)]
    assert marks.since_each(1.0, {COMPARED: 35}) == [Evidence(compared=25), Evidence(compared=5)]


def test_marks_of_another_window_or_an_emptied_ledger_are_gone() -> None:
    marks = Marks()
    marks.since_each(1.0, {COMPARED: 10})
    assert marks.since_each(2.0, {COMPARED: 20}) == []
    assert marks.since_each(2.0, {COMPARED: 3}) == []
    assert marks.since_each(2.0, {COMPARED: 5}) == [Evidence(compared=2)]
    marks.forget()
    assert marks.since_each(2.0, {COMPARED: 9}) == []


@given(st.lists(st.integers(1, 500), min_size=1, max_size=400))
def test_marks_are_few_and_one_is_near_any_moment(gaps: list[int]) -> None:
    """Nearer than half of what was counted since, and one look's worth."""
    marks: tuple[dict[str, float], ...] = ()
    at = 0
    moments = []
    for gap in gaps:
        at += gap
        moments.append(at)
        marks = tuple(dict(mark) for mark in thinned((*marks, {COMPARED: at})))
    kept = [mark[COMPARED] for mark in marks]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (moments[0], moments[-1])
    assert len(kept) <= 60
    for moment in moments:
        later = min(mark for mark in kept if mark >= moment)
        assert later - moment <= 0.5 * (at - later) + max(gaps)
