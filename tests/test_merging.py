"""Answers of several workers as one."""

from typing import Any

from proxy.workers.merging import merged_audit, merged_entries, merged_purge, merged_status


def status(entries: int) -> dict[str, Any]:
    return {"version": "1", "cache": {"entries": entries, "bytes": 10 * entries}}


def test_caches_add_up_and_the_rest_is_the_leads() -> None:
    merged = merged_status(
        {**status(1), "jobs": ["lead"]}, [{**status(2), "jobs": []}], {"uptime_s": 5}
    )
    assert merged == {
        "version": "1", "cache": {"entries": 3, "bytes": 30}, "jobs": ["lead"], "uptime_s": 5,
    }  # fmt: skip


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
