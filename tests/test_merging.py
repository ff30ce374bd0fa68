"""Answers of several workers as one."""

from typing import Any

from proxy.workers.merging import (
    merged_audit,
    merged_entries,
    merged_jobs,
    merged_purge,
    merged_status,
)


def job(name: str, started_at: str | None = None, finished_at: str | None = None) -> dict[str, Any]:
    return {"id": name, "started_at": started_at, "finished_at": finished_at}


def status(entries: int, *jobs: dict[str, Any]) -> dict[str, Any]:
    cache = {"entries": entries, "bytes": 10 * entries}
    return {"version": f"{entries}", "cache": cache, "jobs": list(jobs)}


def test_caches_add_up_jobs_are_of_all_and_the_rest_is_the_leads() -> None:
    jobs = [job(f"{number}", f"2024-01-01T00:00:0{number}Z") for number in range(7)]
    merged = merged_status(
        {2: status(1, *jobs[5:3:-1]), 1: status(2, jobs[6], *jobs[3::-1])}, {"uptime_s": 5}
    )
    newest = zip(jobs[:1:-1], (1, 2, 2, 1, 1), strict=True)
    assert merged == {
        "version": "1", "cache": {"entries": 3, "bytes": 30}, "uptime_s": 5,
        "jobs": [{**one, "worker": worker} for one, worker in newest],
    }  # fmt: skip


def test_jobs_that_wait_come_first_and_one_that_was_cancelled_before_it_began_where_it_ended() -> (
    None
):
    parts = {
        1: [job("waits"), job("cancelled", None, "2024-01-01T00:00:03Z")],
        2: [job("runs", "2024-01-01T00:00:04Z"), job("done", "2024-01-01T00:00:02Z", "later")],
    }
    merged = merged_jobs(parts, 10)
    assert [(one["id"], one["worker"]) for one in merged] == [
        ("waits", 1), ("runs", 2), ("cancelled", 1), ("done", 2),
    ]  # fmt: skip
    assert merged_jobs(parts, 2) == merged[:2]


def test_jobs_of_one_worker_stay_in_its_order() -> None:
    merged = merged_jobs({1: [job("b"), job("a")], 2: [job("c")]}, 10)
    assert [one["id"] for one in merged] == ["b", "a", "c"]


def test_a_purge_is_complete_when_it_was_so_everywhere() -> None:
    done = {"purged": 2, "is_complete": True}
    half = {"purged": 1, "is_complete": False}
    assert merged_purge(done, [done, done]) == {"purged": 6, "is_complete": True}
    assert merged_purge(done, [half]) == {"purged": 3, "is_complete": False}
    # Who did not answer may still hold what was meant.
    assert merged_purge(done, [None]) == {"purged": 2, "is_complete": False}


def entry(key: str, tier: str = "memory", **more: object) -> dict[str, Any]:
    return {"key": key, "tier": tier, "hits": 1, "age_s": 5.0, "is_fresh": True, **more}


def test_what_several_hold_is_one_entry() -> None:
    merged = merged_entries(
        [[entry("a", hits=2, age_s=9.0), entry("b")], [entry("a", hits=3, age_s=4.0)]], 10
    )
    assert merged == [
        {**entry("a", hits=5, age_s=4.0), "workers": 2},
        {**entry("b"), "workers": 1},
    ]


def test_an_entry_of_one_tier_is_none_of_another() -> None:
    merged = merged_entries([[entry("a")], [entry("a", "redis")]], 10)
    assert [one["tier"] for one in merged] == ["memory", "redis"]
    assert merged_entries([[entry("a"), entry("b")]], 1) == [{**entry("a"), "workers": 1}]


def act(at: str, action: str = "purge", after: object = None, reason: str = "") -> dict[str, Any]:
    return {
        "at": f"2024-01-01T00:00:{at}Z", "author": "me", "action": action, "before": {"all": True},
        "after": after, "reason": reason,
    }  # fmt: skip


def test_what_all_were_asked_is_told_once() -> None:
    parts = {1: [act("10.000", after=5)], 2: [act("10.020", after=7)], 3: [act("10.010", after=1)]}
    assert merged_audit(parts, 10) == [act("10.000", after=5)]


def test_what_was_done_twice_is_told_twice() -> None:
    parts = {
        1: [act("12.000"), act("10.000")],
        2: [act("12.020"), act("10.020")],
    }
    assert merged_audit(parts, 10) == [act("12.000"), act("10.000")]


def test_the_same_after_all_were_replaced_is_another_act() -> None:
    parts = {1: [act("10.000")], 2: [act("10.020")], 3: [act("30.000")], 4: [act("30.020")]}
    assert merged_audit(parts, 10) == [act("30.000"), act("10.000")]


def test_one_that_joined_between_two_acts_hides_none() -> None:
    parts = {1: [act("12.000"), act("10.000")], 3: [act("12.020")]}
    assert merged_audit(parts, 10) == [act("12.000"), act("10.000")]


def test_other_acts_and_other_reasons_are_apart_and_the_newest_come_first() -> None:
    parts = {1: [act("11.000", "split"), act("10.000")], 2: [act("10.500", reason="why")]}
    assert [one["at"][-7:-1] for one in merged_audit(parts, 10)] == ["11.000", "10.500", "10.000"]
    assert merged_audit(parts, 1) == [act("11.000", "split")]


class Counted(dict[str, Any]):
    """Counts how often its time is read."""

    reads = 0

    def __getitem__(self, name: str) -> Any:
        Counted.reads += name == "at"
        return super().__getitem__(name)


def test_of_each_list_only_what_can_be_wanted_is_looked_at() -> None:
    Counted.reads = 0
    many = [Counted(act(f"{59 - second:02}.000", f"{second}")) for second in range(60)]
    assert merged_audit({1: many, 2: many}, 1) == many[:1]
    assert Counted.reads == 2
