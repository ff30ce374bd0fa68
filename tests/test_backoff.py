from proxy.workers.backoff import Backoff


def test_one_that_lived_long_is_replaced_at_once() -> None:
    backoff = Backoff(young_s=10)
    backoff.ended(10, now=50)
    assert backoff.may_start_at == 50


def test_who_dies_young_again_and_again_waits_longer_and_longer_up_to_a_bound() -> None:
    backoff = Backoff(first_s=0.5, most_s=3, young_s=10)
    pauses = []
    for now in range(100, 200):
        backoff.ended(9.9, now=now)
        pauses.append(backoff.may_start_at - now)
    assert pauses[:5] == [0.5, 1, 2, 3, 3]
    assert set(pauses[3:]) == {3}


def test_a_long_life_is_a_new_beginning() -> None:
    backoff = Backoff(first_s=0.5, young_s=10)
    for _ in range(5):
        backoff.ended(1, now=0)
    backoff.ended(60, now=60)
    backoff.ended(1, now=61)
    assert backoff.may_start_at == 61.5


def test_what_is_forgiven_is_forgotten() -> None:
    backoff = Backoff(first_s=0.5)
    backoff.ended(1, now=1)
    backoff.ended(1, now=2)
    backoff.forgive(now=3)
    assert backoff.may_start_at == 3
    backoff.ended(1, now=4)
    assert backoff.may_start_at == 4.5
