"""Pipeline writes, questions, faults and time in any order, against a small model of the promises.

Tables, watermarks and tiers are real; Redis, the legacy and the clock are
moved by hand. The model knows what every answer may be: the numbers as last
committed, else numbers from before that say so, and no answer only where no
source has one.
"""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.answer import Answer
from proxy.errors import BackendError
from proxy.query import Query
from tests.clocks import HandClock
from tests.model_world import (
    DAILY,
    DAYS,
    FIRST,
    HOLD_S,
    HandLegacy,
    HandRedis,
    Proxy,
    Tables,
    make_template,
    question,
)

QUESTIONS = [
    question(0, DAYS - 1),
    question(0, 1),
    question(DAYS - 2, DAYS - 1),
    question(DAYS - 1, DAYS + 1),
    question(DAYS, DAYS + 1),
]
LAST_NEW_DAY = DAYS + 1
OTHER_COLUMNS = (
    "date, entity_type, entity_id, purchase_users_count, meta_spend, adjusted_estimated_revenue_usd"
)


class Pipeline(RuleBasedStateMachine):
    """`is_held`: rows that the proxy may know of are missing, and it may not know of their return.

    `phase` is what the tables hold: all rows, none, or half of a refill.
    """

    def __init__(self, template: Path) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.tables = Tables(template, Path(self.folder.name))
        self.redis, self.legacy = HandRedis(), HandLegacy(self.tables)
        self.clock, self.runner = HandClock(), asyncio.Runner()
        self.stamp = datetime(2024, 6, 8, 3)
        self.days = DAYS
        self.phase = "full"
        self.is_held = False
        self.before: dict[Query, int | None] = {}
        self.history: dict[Query, set[int | None]] = {query: set() for query in QUESTIONS}
        self.bodies: dict[tuple[Query, object], bytes] = {}
        self.begin_life()
        self.remember()

    def begin_life(self) -> None:
        self.kept: set[Query] = set()
        self.known: set[Query] = set()
        self.states: dict[Query, tuple[object, ...]] = {}
        self.fresh: set[Query] = set()
        self.has_looked = False
        self.proxy = Proxy(self.tables, self.redis, self.legacy)
        self.runner.run(self.proxy.start(self.clock))

    def teardown(self) -> None:
        self.runner.run(self.proxy.end())
        self.runner.close()
        self.tables.close()
        self.folder.cleanup()

    @property
    def may_write(self) -> bool:
        return self.tables.is_readable and not self.is_held and self.phase == "full"

    def remember(self) -> None:
        for query in QUESTIONS:
            self.history[query].add(self.tables.trials(query))

    # What the pipeline does.

    @precondition(lambda self: self.may_write)
    @rule(
        first=st.integers(0, DAYS - 1),
        days=st.integers(1, 3),
        more=st.integers(1, 5),
        later_h=st.sampled_from([1, 0, -1]),
        replaces=st.booleans(),
    )
    def run(self, first: int, days: int, more: int, later_h: int, replaces: bool) -> None:
        """Some days are written anew, with a stamp that is newer, the same, or an hour back."""
        stamp = self.stamp + timedelta(hours=later_h)
        self.stamp = max(self.stamp, stamp)
        start, end = (FIRST + timedelta(days=day) for day in (first, first + days - 1))
        where = f"date BETWEEN '{start}' AND '{end}'"
        new = f"trial_users_count + {more}"
        if replaces:
            self.tables.commit(
                f"INSERT OR REPLACE INTO {DAILY} ({OTHER_COLUMNS}, trial_users_count, computed_at)"
                f" SELECT {OTHER_COLUMNS}, {new}, '{stamp}' FROM {DAILY} WHERE {where}"
            )
        else:
            self.tables.commit(
                f"UPDATE {DAILY} SET trial_users_count = {new}, computed_at = '{stamp}'"
                f" WHERE {where}"
            )
        self.remember()

    @precondition(lambda self: self.may_write and self.days <= LAST_NEW_DAY)
    @rule()
    def a_new_day(self) -> None:
        last, new = (FIRST + timedelta(days=day) for day in (DAYS - 1, self.days))
        columns = OTHER_COLUMNS.removeprefix("date, ")
        self.tables.commit(
            f"INSERT INTO {DAILY} (date, {columns}, trial_users_count, computed_at)"
            f" SELECT '{new}', {columns}, trial_users_count, '{self.stamp}' FROM {DAILY}"
            f" WHERE date = '{last}'"
        )
        self.days += 1
        self.remember()

    @precondition(lambda self: self.may_write)
    @rule(day=st.integers(0, DAYS - 1))
    def a_row_goes(self, day: int) -> None:
        """Only counts can show it, and they are looked at a moment later."""
        self.tables.commit(
            f"DELETE FROM {DAILY} WHERE metric_id = (SELECT MAX(metric_id) FROM {DAILY}"
            f" WHERE entity_type = 'ad' AND date = '{FIRST + timedelta(days=day)}')"
        )
        self.poll()
        self.remember()

    @precondition(lambda self: self.may_write)
    @rule()
    def all_rows_go(self) -> None:
        self.before = {query: self.tables.trials(query) for query in QUESTIONS}
        self.fresh = {q for q in self.kept if self.states.get(q) == self.tables.state(q)}
        self.tables.commit(
            "DROP TABLE IF EXISTS temp.stash",
            f"CREATE TEMP TABLE stash AS SELECT * FROM {DAILY}",
            f"DELETE FROM {DAILY}",
        )
        self.phase, self.is_held = "none", True

    @precondition(lambda self: self.phase == "none" and self.tables.is_readable)
    @rule(more=st.integers(0, 2), later_h=st.sampled_from([1, 0]), half=st.booleans())
    def rows_come_back(self, more: int, later_h: int, half: bool) -> None:
        self.stamp += timedelta(hours=later_h)
        self.tables.commit(f"UPDATE temp.stash SET trial_users_count = trial_users_count + {more}")
        self.put_back("metric_id % 2 = 0" if half else "TRUE")
        self.phase = "half" if half else "full"

    @precondition(lambda self: self.phase == "half" and self.tables.is_readable)
    @rule()
    def the_rest_comes_back(self) -> None:
        self.put_back("metric_id % 2 = 1")
        self.phase = "full"

    def put_back(self, which: str) -> None:
        self.tables.commit(
            f"INSERT INTO {DAILY} ({OTHER_COLUMNS}, trial_users_count, computed_at)"
            f" SELECT {OTHER_COLUMNS}, trial_users_count, '{self.stamp}' FROM temp.stash"
            f" WHERE {which}"
        )
        if not self.is_held:
            self.remember()

    # What time brings.

    @precondition(lambda self: self.is_held and self.phase == "full" and self.tables.is_readable)
    @rule()
    def it_is_quiet(self) -> None:
        for _ in range(4):
            self.poll()
        self.is_held = False
        self.remember()

    @precondition(lambda self: self.is_held and self.tables.is_readable)
    @rule()
    def the_hold_runs_out(self) -> None:
        self.poll()
        self.clock.pass_s(HOLD_S)
        self.poll()
        self.is_held = False
        self.known.clear()
        self.remember()

    @rule()
    def poll(self) -> None:
        self.runner.run(self.proxy.poll())
        self.has_looked |= self.tables.is_readable

    # What goes wrong.

    @precondition(lambda self: not self.tables.is_locked)
    @rule()
    def the_file_moves(self) -> None:
        self.tables.move(away=not self.tables.is_away)

    @precondition(lambda self: self.tables.has_locks and not self.tables.is_away)
    @rule()
    def the_lock_turns(self) -> None:
        if self.tables.is_locked:
            self.tables.unlock()
        else:
            self.tables.lock()

    @rule()
    def the_legacy_goes_or_comes(self) -> None:
        self.legacy.is_down = not self.legacy.is_down

    @rule()
    def redis_goes_or_comes(self) -> None:
        self.redis.is_down = not self.redis.is_down
        # Until its circuit's next try the tier counts as down.
        self.clock.pass_s(10)

    @precondition(lambda self: self.may_write)
    @rule()
    def the_proxy_starts_anew(self) -> None:
        self.runner.run(self.proxy.end())
        self.begin_life()

    # What callers do.

    @rule(query=st.sampled_from(QUESTIONS))
    def ask(self, query: Query) -> None:
        try:
            answer = self.runner.run(self.proxy.ask(query))
        except BackendError:
            if self.has_a_source(query):
                raise
            return
        self.has_looked |= self.tables.is_readable
        self.judge(query, answer)
        if answer.is_stored:
            self.kept.add(query)
        if self.tables.is_readable and answer.source == "optimized" and not self.is_held:
            self.known.add(query)

    @rule()
    def ask_all(self) -> None:
        for query in QUESTIONS:
            self.ask(query)

    def has_a_source(self, query: Query) -> bool:
        has_rows = self.tables.is_readable and self.tables.trials(query) is not None
        return not self.legacy.is_down or has_rows or self.has_entry(query)

    def has_entry(self, query: Query) -> bool:
        if query in self.kept:
            return True
        # Which entries are its own a proxy knows once it has seen the schema.
        is_reached = self.has_looked and not self.redis.is_down
        return is_reached and any(e.query == query for e in self.redis.entries.values())

    def judge(self, query: Query, answer: Answer) -> None:
        rows = orjson.loads(answer.payload.body)["data"]
        number = sum(row["trials"] for row in rows) if rows else None
        truth = self.tables.trials(query)
        is_seen = self.is_held and self.phase != "full" and self.tables.is_readable
        if is_seen and query in self.fresh:
            # The entry from before goes on as valid, marked: nobody else is asked.
            assert "rebuilding" in answer.warnings
            assert number == self.before[query]
        if answer.source == "legacy":
            assert number == truth
            assert self.is_held or truth is None or not self.tables.is_readable
        elif answer.source == "stale":
            assert {"stale", "unverified"} & {*answer.warnings}
            assert self.is_held or truth is None or not self.tables.is_readable
            assert number in self.history[query]
        elif "rebuilding" in answer.warnings:
            assert self.is_held
            # Nobody has asked between the last run and the loss: what was known before it is all.
            older = set() if query in self.fresh else self.history[query]
            assert number in {self.before[query], truth} | older
        elif not self.tables.is_readable:
            assert self.tables.is_locked
            assert number in self.history[query]
        elif self.is_held and query in self.known:
            assert number == (truth if self.phase == "full" else self.before[query])
            self.history[query].add(number)
        else:
            assert number == truth
            self.history[query].add(number)
            state = self.states[query] = self.tables.state(query)
            body = answer.payload.body
            assert self.bodies.setdefault((query, state), body) == body


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_any_order_of_events_keeps_the_promises(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a locked database costs each question otherwise is most of the time.
    monkeypatch.setattr("proxy.backends.database._BUSY_TIMEOUT_MS", 1)
    template = tmp_path / "template.db"
    make_template(template, journal)
    run_state_machine_as_test(
        lambda: Pipeline(template),  # type: ignore[arg-type]  # any maker of machines will do
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            derandomize=True,
            database=None,
            deadline=None,
            # Shrinking takes minutes; whoever looks for the shortest way adds Phase.shrink.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
