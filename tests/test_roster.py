"""What is to be done next, whatever ended when."""

from collections.abc import Sequence
from random import Random

import pytest

from proxy.workers.backoff import Backoff
from proxy.workers.roster import Drain, Roster, Start, Wait


def stages(roster: Roster) -> list[tuple[int, int, str]]:
    return [(one.number, one.generation, one.stage) for one in roster]


def serving(count: int, now: float = 0) -> Roster:
    """One whose workers serve."""
    roster = Roster(count, Backoff(first_s=0.5, young_s=10))
    while roster.due(now) is not None:
        roster.serves(roster.starts(now).number)
    assert len(roster) == count
    return roster


def test_the_first_comes_alone_and_the_others_together() -> None:
    roster = Roster(3, Backoff())
    assert roster.due(0) == Start(1)
    first = roster.starts(0)
    assert roster.due(0) is None
    roster.serves(first.number)
    assert roster.due(0) == Start(1)
    roster.starts(0)
    assert roster.due(0) == Start(1)
    roster.starts(0)
    assert roster.due(0) is None
    assert not roster.is_complete


def test_one_that_crashes_is_replaced() -> None:
    roster = serving(2)
    assert roster.ended(1, now=60) == "crashed"
    assert roster.due(60) == Start(1)
    assert roster.starts(60).number == 3


def test_one_that_crashes_young_is_replaced_after_a_pause() -> None:
    roster = serving(2)
    roster.ended(1, now=1)
    assert roster.due(1) == Wait(1.5)
    assert roster.due(1.5) == Start(1)


def test_new_settings_are_tried_at_once_however_often_the_old_ones_failed() -> None:
    roster = serving(1)
    for now in (1, 2, 4, 8):
        [member] = roster
        roster.ended(member.number, now)
        roster.serves(roster.starts(now).number)
    roster.ended(next(iter(roster)).number, now=9)
    assert isinstance(roster.due(9), Wait)
    roster.turn_to(2, 1, now=9)
    assert roster.due(9) == Start(2)


def test_a_roll_brings_one_in_before_one_goes_and_waits_until_it_has_gone() -> None:
    roster = serving(2)
    roster.turn_to(2, 2, now=0)
    assert roster.due(0) == Start(2)
    third = roster.starts(0)
    assert roster.due(0) is None
    roster.serves(third.number)
    # The oldest leads: it leads on for as long as it can.
    assert roster.due(0) == Drain(2)
    roster.drains(2)
    assert roster.due(0) is None
    assert roster.ended(2, now=1) == "left"
    assert roster.due(1) == Start(2)
    assert roster.lead is not None
    assert roster.lead.number == 1
    roster.serves(roster.starts(1).number)
    assert roster.due(1) == Drain(1)
    roster.drains(1)
    assert roster.lead.number == 3
    roster.ended(1, now=2)
    assert roster.due(2) is None
    assert stages(roster) == [(3, 2, "serving"), (4, 2, "serving")]
    assert not roster.is_rolling


def test_an_old_one_that_crashes_amid_a_roll_is_not_replaced_twice() -> None:
    roster = serving(2)
    roster.turn_to(2, 2, now=0)
    roster.starts(0)
    assert roster.ended(1, now=60) == "crashed"
    # The new one comes in its place.
    assert roster.due(60) is None
    roster.serves(3)
    assert roster.due(60) == Start(2)
    roster.serves(roster.starts(60).number)
    assert roster.due(60) == Drain(2)


def test_settings_with_which_nobody_can_begin_are_given_up() -> None:
    roster = serving(2)
    roster.turn_to(2, 5, now=0)
    third = roster.starts(0)
    assert roster.ended(third.number, now=1) == "abandoned"
    assert roster.due(1) is None
    assert stages(roster) == [(1, 1, "serving"), (2, 1, "serving")]
    assert (roster.count, roster.generation) == (2, 1)
    assert not roster.is_rolling


def test_one_that_crashes_while_others_are_tried_comes_back_as_it_was_when_they_fail() -> None:
    roster = serving(2)
    roster.turn_to(2, 2, now=0)
    third = roster.starts(0)
    roster.ended(1, now=1)
    assert roster.due(1) is None
    roster.ended(third.number, now=1)
    assert roster.due(1) == Start(1)


def test_settings_with_which_one_has_begun_are_not_given_up() -> None:
    roster = serving(2)
    roster.turn_to(2, 2, now=0)
    roster.serves(roster.starts(0).number)
    roster.drains(2)
    roster.ended(2, now=0)
    fourth = roster.starts(0)
    assert roster.ended(fourth.number, now=1) == "failed"
    assert roster.due(1) == Wait(1.5)
    assert roster.due(1.5) == Start(2)


def test_a_second_roll_amid_the_first_replaces_what_that_has_begun() -> None:
    roster = serving(2)
    roster.turn_to(2, 2, now=0)
    third = roster.starts(0)
    roster.turn_to(3, 2, now=0)
    roster.serves(third.number)
    for _ in range(20):
        match roster.due(0):
            case Drain(number):
                roster.drains(number)
                roster.ended(number, now=0)
            case Start():
                roster.serves(roster.starts(0).number)
            case None:
                break
    assert [one.generation for one in roster] == [3, 3]


def test_of_rolls_that_fail_the_last_that_served_is_wanted_again() -> None:
    roster = serving(1)
    roster.turn_to(2, 1, now=0)
    roster.serves(roster.starts(0).number)
    roster.turn_to(3, 4, now=0)
    roster.drains(1)
    roster.ended(1, now=0)
    assert roster.ended(roster.starts(0).number, now=0) == "abandoned"
    assert (roster.generation, roster.count, roster.proven) == (2, 1, 2)


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (1, 3), (3, 1)])
def test_another_number_of_workers_comes_with_a_roll(before: int, after: int) -> None:
    roster = serving(before)
    roster.turn_to(2, after, now=0)
    run(roster)
    assert [one.generation for one in roster] == [2] * after


def test_who_stops_starts_and_drains_nobody() -> None:
    roster = serving(2)
    roster.turn_to(2, 2, now=0)
    roster.is_stopping = True
    assert roster.due(0) is None
    assert roster.ended(1, now=60) == "left"
    assert roster.due(60) is None


def test_there_is_a_lead_while_anyone_serves() -> None:
    roster = Roster(2, Backoff())
    leads = [roster.lead]
    roster.starts(0)
    leads.append(roster.lead)
    roster.serves(1)
    leads.append(roster.lead)
    roster.drains(1)
    # Better one that leaves than none.
    leads.append(roster.lead)
    assert [lead and lead.number for lead in leads] == [None, None, 1, 1]


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_enough_serve_in_the_end_and_never_too_few_by_our_own_doing(
    seed: int,
) -> None:
    chance = Random(seed)
    roster = serving(chance.randint(1, 4))
    generation = 1
    now = 0.0
    for _ in range(60):
        now += chance.random() * 20
        numbers = [one.number for one in roster]
        match chance.randint(0, 4):
            case 0 if numbers:
                roster.ended(chance.choice(numbers), now)
            case 1:
                generation += 1
                roster.turn_to(generation, chance.randint(1, 4), now)
            case _:
                step(roster, now, chance)
    run(roster, now)
    assert roster.is_complete
    assert {one.stage for one in roster} == {"serving"}
    assert len(roster) == roster.count
    assert not roster.is_rolling


def step(roster: Roster, now: float, chance: Random | None = None) -> bool:
    """Do what is due, else let something come to its end. False: there is nothing more."""
    match roster.due(now):
        case Start():
            roster.starts(now)
        case Drain(number):
            before = count(roster, ["serving"])
            assert before > roster.count
            roster.drains(number)
        case Wait():
            return True
        case None:
            for one in roster:
                if one.stage == "starting":
                    roster.serves(one.number)
                    return True
                if one.stage == "draining":
                    roster.ended(one.number, now)
                    return True
            return False
    return True


def run(roster: Roster, now: float = 0) -> None:
    for _ in range(1000):
        now += 1
        if not step(roster, now):
            return
    raise AssertionError(f"no end of it: {roster}")


def count(roster: Roster, wanted: Sequence[str]) -> int:
    return sum(one.stage in wanted for one in roster)
