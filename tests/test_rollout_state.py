"""The migration's state: what changes make of it, and that processes which meet agree."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rollout.shared_state import merged_into
from proxy.rollout.state import (
    MOST_CHANGES,
    Cause,
    ConflictError,
    MigrationState,
    Rollout,
    lifted,
    merge,
    rolled_back,
    with_percent,
    with_rollout,
    with_settings,
    with_shadow_rate,
)
from proxy.rollout.state_codec import NewerFormError, from_json, tag_of, to_json


def why(at: float = 1.0, author: str = "ann", reason: str = "because") -> Cause:
    return Cause(author, reason, at)


def running(step: int = 0) -> Rollout:
    return Rollout("running", step, since=1.0, baseline={"compared": 3.0})


def test_the_percent_in_force_is_what_was_set() -> None:
    state = with_percent(MigrationState(), 25, why())
    assert (state.percent_in_force, state.author, state.reason) == (25, "ann", "because")
    assert [change.action for change in state.history] == ["split"]


def test_rolled_back_means_nothing_for_the_optimized_side_and_no_new_percent() -> None:
    state = rolled_back(with_percent(MigrationState(), 25, why()), why(2, "guard", "spend"))
    assert state.percent_in_force == 0
    assert (state.author, state.reason, state.changed_at) == ("guard", "spend", 2)
    with pytest.raises(ConflictError, match="rollback --lift"):
        with_percent(state, 30, why(3))


def test_a_lift_goes_to_zero_not_back() -> None:
    state = lifted(rolled_back(with_percent(MigrationState(), 25, why()), why(2)), why(3))
    assert (state.percent_in_force, state.rolled_back) == (0, False)
    assert with_percent(state, 30, why(4)).percent_in_force == 30


def test_lifting_what_is_not_rolled_back_is_refused() -> None:
    with pytest.raises(ConflictError, match="not rolled back"):
        lifted(MigrationState(), why())


def test_a_rollback_ends_the_rollout_and_a_lift_does_not_start_it_again() -> None:
    state = with_rollout(MigrationState(), running(1), 5, why(), action="start")
    back = rolled_back(state, why(2, "guard", "spend"))
    assert (back.rollout.state, back.rollout.reason) == ("rolled_back", "spend")
    with pytest.raises(ConflictError):
        with_rollout(back, running(2), 25, why(3), action="step")
    assert lifted(back, why(3)).rollout.state == "idle"


def test_setting_the_percent_by_hand_pauses_a_rollout() -> None:
    state = with_rollout(MigrationState(), running(1), 5, why(), action="start")
    assert with_percent(state, 7, why(2)).rollout.state == "paused"


def test_settings_count_until_the_first_change() -> None:
    untouched = with_settings(MigrationState(), 40, 0.5)
    assert (untouched.percent_in_force, untouched.shadow_rate) == (40, 0.5)
    touched = with_shadow_rate(with_percent(untouched, 25, why()), 0.1, why(2))
    assert with_settings(touched, 40, 0.5) == touched


def test_a_rollback_made_apart_outlives_a_percent_set_meanwhile() -> None:
    both = with_percent(MigrationState(), 25, why())
    here = rolled_back(both, why(2))
    there = with_percent(with_percent(both, 30, why(3)), 40, why(4))
    met = merge(here, there)
    assert met.rolled_back
    assert met.percent_in_force == 0
    assert not lifted(met, why(5)).rolled_back


def test_a_lift_ends_only_the_rollbacks_it_knew_of() -> None:
    both = rolled_back(MigrationState(), why(1))
    here = lifted(both, why(2))
    there = rolled_back(both, why(3, reason="again"))
    assert merge(here, there).rolled_back
    assert merge(here, both).percent_in_force == 0
    assert not merge(here, both).rolled_back


def test_a_rollout_that_went_on_elsewhere_is_over_when_it_meets_a_rollback() -> None:
    both = with_rollout(MigrationState(), running(0), 1, why(), action="start")
    here = rolled_back(both, why(2, reason="errors"))
    there = with_rollout(
        with_rollout(both, running(1), 5, why(3), action="step"), running(2), 25, why(4)
    )
    met = merge(here, there)
    assert (met.rollout.state, met.rollout.reason) == ("rolled_back", "errors")


def test_history_is_bounded() -> None:
    state = MigrationState()
    for number in range(MOST_CHANGES + 20):
        state = with_percent(state, number % 100, why(number))
    assert len(state.history) == MOST_CHANGES
    assert state.history[-1].at == MOST_CHANGES + 19


causes = st.builds(
    Cause, st.sampled_from(["ann", "bob", "guard"]), st.sampled_from(["", "x"]), st.integers(1, 5)
)
steps = st.lists(
    st.tuples(st.sampled_from(["split", "back", "lift", "shadow", "rollout"]), causes), max_size=6
)


def walked(start: MigrationState, path: list[tuple[str, Cause]]) -> MigrationState:
    state = start
    for number, (what, cause) in enumerate(path):
        try:
            if what == "split":
                state = with_percent(state, number * 7 % 100, cause)
            elif what == "back":
                state = rolled_back(state, cause)
            elif what == "lift":
                state = lifted(state, cause)
            elif what == "shadow":
                state = with_shadow_rate(state, number / 10, cause)
            else:
                state = with_rollout(state, running(number % 3), number, cause, action="step")
        except ConflictError:
            continue
    return state


@given(steps, steps, steps, steps)
def test_processes_that_meet_agree_in_whatever_order(
    common: list[tuple[str, Cause]],
    one: list[tuple[str, Cause]],
    two: list[tuple[str, Cause]],
    three: list[tuple[str, Cause]],
) -> None:
    start = walked(MigrationState(), common)
    a, b, c = (walked(start, path) for path in (one, two, three))
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), a) == merge(a, b)


@given(steps, steps)
def test_whoever_follows_by_tags_ends_with_the_same(
    one: list[tuple[str, Cause]], two: list[tuple[str, Cause]]
) -> None:
    a, b = walked(MigrationState(), one), walked(MigrationState(), two)
    kept = merged_into(None, a)
    for _ in range(3):
        kept = merged_into(kept, b)
        b = merge(b, kept)
        kept = merged_into(kept, a)
        a = merge(a, kept)
    assert tag_of(a) == tag_of(b) == tag_of(kept)


@given(steps)
def test_what_is_kept_comes_back_as_it_was(path: list[tuple[str, Cause]]) -> None:
    state = walked(MigrationState(), path)
    assert from_json(to_json(state)) == state
    assert to_json(from_json(to_json(state))) == to_json(state)


def test_a_later_form_is_not_guessed_at() -> None:
    body = to_json(MigrationState()).replace(b'"form":1', b'"form":2')
    with pytest.raises(NewerFormError):
        from_json(body)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b'"percent":25.0', b'"percent":250.0'),
        (b'"percent":25.0', b'"percent":true'),
        (b'"shadow_rate":0.0', b'"shadow_rate":null'),
        (b'"raises":[]', b'"raises":[[1]]'),
        (b'"version":1', b'"version":-1'),
        (b'"state":"idle"', b'"state":"flying"'),
        (b'"form":1', b'"form":0'),
    ],
)
def test_rubbish_is_refused(was: bytes, becomes: bytes) -> None:
    body = to_json(with_percent(MigrationState(), 25.0, why()))
    assert was in body
    with pytest.raises(ValueError):
        from_json(body.replace(was, becomes))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_state_or_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(body)


def test_the_same_version_with_another_content_has_another_tag() -> None:
    one = with_percent(MigrationState(), 10, why())
    assert tag_of(one) != tag_of(replace(one, percent=20))
