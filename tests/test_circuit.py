"""When a system that is down is left alone, and when it is tried again."""

import pytest

from proxy.circuit import Circuit
from tests.clocks import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def circuit(clock: HandClock) -> Circuit:
    return Circuit(clock, pause_s=1.0, longest_pause_s=10.0)


def admitted(circuit: Circuit) -> int:
    ticket = circuit.admit()
    assert ticket is not None
    return ticket


def test_it_lets_everything_through_while_all_is_well(circuit: Circuit) -> None:
    for _ in range(3):
        assert not circuit.succeeded(admitted(circuit))

    assert repr(circuit) == "<Circuit closed>"


def test_a_failure_keeps_everything_out_for_the_pause(circuit: Circuit, clock: HandClock) -> None:
    assert circuit.failed(admitted(circuit))

    assert circuit.is_open
    assert circuit.admit() is None
    assert repr(circuit) == "<Circuit open, next try in 1.0 s>"
    clock.pass_s(0.99)
    assert circuit.admit() is None


def test_it_tells_how_long_nothing_is_let_through(circuit: Circuit, clock: HandClock) -> None:
    assert circuit.retry_in_s == 0
    circuit.failed(admitted(circuit))
    assert circuit.retry_in_s == 1.0
    clock.pass_s(0.75)
    assert circuit.retry_in_s == 0.25
    clock.pass_s(1)
    assert circuit.retry_in_s == 0
    admitted(circuit)
    assert circuit.retry_in_s == 1.0


def test_after_the_pause_one_call_tries(circuit: Circuit, clock: HandClock) -> None:
    circuit.failed(admitted(circuit))
    clock.pass_s(1)

    assert circuit.admit() is not None
    assert circuit.admit() is None


def test_a_try_that_goes_well_lets_everything_through_again(
    circuit: Circuit, clock: HandClock
) -> None:
    circuit.failed(admitted(circuit))
    clock.pass_s(1)

    assert circuit.succeeded(admitted(circuit))
    assert not circuit.is_open
    assert circuit.admit() is not None


def test_each_failed_try_doubles_the_pause_up_to_the_longest(
    circuit: Circuit, clock: HandClock
) -> None:
    circuit.failed(admitted(circuit))
    pauses = []
    for _ in range(6):
        begun = clock.monotonic()
        while (ticket := circuit.admit()) is None:
            clock.pass_s(0.5)
        pauses.append(clock.monotonic() - begun)
        assert not circuit.failed(ticket)

    assert pauses == [1, 2, 4, 8, 10, 10]


def test_after_it_was_back_the_next_outage_begins_with_a_short_pause(
    circuit: Circuit, clock: HandClock
) -> None:
    circuit.failed(admitted(circuit))
    clock.pass_s(1)
    circuit.failed(admitted(circuit))
    clock.pass_s(2)
    circuit.succeeded(admitted(circuit))

    assert circuit.failed(admitted(circuit))
    clock.pass_s(1)
    assert circuit.admit() is not None


def test_calls_that_fail_together_are_one_failure(circuit: Circuit, clock: HandClock) -> None:
    tickets = [admitted(circuit) for _ in range(100)]

    assert [circuit.failed(ticket) for ticket in tickets] == [True] + [False] * 99
    clock.pass_s(1)
    assert circuit.admit() is not None


def test_a_call_from_before_the_outage_does_not_end_it(circuit: Circuit) -> None:
    early, late = admitted(circuit), admitted(circuit)
    circuit.failed(early)

    assert not circuit.succeeded(late)
    assert circuit.is_open


def test_a_try_that_never_reports_is_followed_by_another(
    circuit: Circuit, clock: HandClock
) -> None:
    circuit.failed(admitted(circuit))
    clock.pass_s(1)
    admitted(circuit)
    clock.pass_s(1)

    assert circuit.succeeded(admitted(circuit))


def test_fewer_failures_than_allowed_keep_nothing_out(clock: HandClock) -> None:
    circuit = Circuit(clock, failures=3)

    assert [circuit.failed(admitted(circuit)) for _ in range(2)] == [False, False]
    assert not circuit.is_open
    assert circuit.failed(admitted(circuit))
    assert circuit.admit() is None


def test_a_success_between_them_makes_failures_none_in_a_row(clock: HandClock) -> None:
    circuit = Circuit(clock, failures=2)
    for _ in range(3):
        assert not circuit.failed(admitted(circuit))
        assert not circuit.succeeded(admitted(circuit))

    assert not circuit.is_open


def test_calls_under_way_together_count_each_for_itself(clock: HandClock) -> None:
    circuit = Circuit(clock, failures=3)
    tickets = [admitted(circuit) for _ in range(5)]

    assert [circuit.failed(ticket) for ticket in tickets] == [False, False, True, False, False]


def test_a_try_that_may_take_long_is_the_only_one_for_as_long(clock: HandClock) -> None:
    circuit = Circuit(clock, pause_s=1, try_s=60)
    circuit.failed(admitted(circuit))
    clock.pass_s(1)
    admitted(circuit)

    clock.pass_s(59)
    assert circuit.admit() is None
    clock.pass_s(1)
    assert circuit.admit() is not None


def test_after_a_try_that_was_given_up_the_next_is_a_pause_later(clock: HandClock) -> None:
    circuit = Circuit(clock, pause_s=1, try_s=60)
    circuit.failed(admitted(circuit))
    clock.pass_s(1)
    circuit.gave_up(admitted(circuit))

    assert circuit.admit() is None
    clock.pass_s(1)
    assert circuit.succeeded(admitted(circuit))


def test_a_try_given_up_too_late_changes_nothing(clock: HandClock) -> None:
    circuit = Circuit(clock, pause_s=1, try_s=60)
    circuit.failed(admitted(circuit))
    clock.pass_s(1)
    first = admitted(circuit)
    clock.pass_s(60)
    second = admitted(circuit)
    circuit.gave_up(first)

    clock.pass_s(2)
    assert circuit.admit() is None
    assert circuit.succeeded(second)
