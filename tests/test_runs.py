"""What the last run has touched, by what looks saw of it."""

from collections.abc import Mapping

from proxy.live.runs import Runs
from proxy.looks import Changes, Snapshot, TableWord

BEFORE = "2024-01-05 03:00:00"
AT = "2024-01-06 03:00:00"
DATES: Mapping[TableWord, list[str]] = {
    "daily": ["2024-01-01", "2024-01-02", "2024-01-03"],
    "breakdown": ["2024-01-02", "2024-01-03"],
}


class World:
    """The newest `computed_at` of each date, and the looks that a commit brings about."""

    def __init__(self) -> None:
        self.stamps: dict[tuple[TableWord, str], str] = {
            (table, day): BEFORE for table, days in DATES.items() for day in days
        }
        self.last_row = 100
        self.seen = self.snapshot()
        self.runs = Runs()
        self.now = 1000.0

    def snapshot(self) -> Snapshot:
        newest: dict[TableWord, str | None] = {
            table: max(stamp for (of, _), stamp in self.stamps.items() if of == table)
            for table in DATES
        }
        rows: dict[TableWord, int] = {"daily": self.last_row, "breakdown": 0}
        return Snapshot("", {}, "", "", newest, rows)

    def write(
        self, *days: str, table: TableWord = "daily", at: str = AT, also_named: tuple[str, ...] = ()
    ) -> None:
        """A commit to `days` and the look that follows; it names `also_named` as well."""
        for day in days:
            self.stamps[table, day] = at
        self.last_row += 1
        self.look({table: frozenset({*days, *also_named})})

    def look(self, dates: Mapping[TableWord, frozenset[str] | None]) -> None:
        before, self.seen = self.seen, self.snapshot()
        named = {"daily": frozenset[str](), "breakdown": frozenset[str](), **dates}
        self.now += 1
        self.runs.wrote(before, Changes(self.seen, named), self.now)

    def count(self, counts: Mapping[str, int], mark: int | None = None) -> frozenset[str]:
        mark = self.runs.mark if mark is None else mark
        return self.runs.counted("daily", counts, mark, self.now)

    def changed(self) -> list[str] | None:
        run = self.runs.last
        return None if run is None else run.changed(DATES, lambda *of: self.stamps.get(of))


COUNTS = {"2024-01-01": 10, "2024-01-02": 10, "2024-01-03": 10}


def test_before_any_commit_there_is_no_run() -> None:
    world = World()
    world.count(COUNTS)
    assert world.changed() is None


def test_a_run_has_touched_what_was_written() -> None:
    world = World()
    world.write("2024-01-02", "2024-01-03")
    assert world.changed() == ["2024-01-02", "2024-01-03"]
    assert world.runs.last is not None
    assert (world.runs.last.computed_at, world.runs.last.seen_at) == (AT, 1001.0)


def test_a_date_that_was_only_read_again_is_not_touched() -> None:
    world = World()
    world.write("2024-01-03", also_named=("2024-01-01", "2024-01-02"))
    assert world.changed() == ["2024-01-03"]


def test_commits_that_follow_each_other_are_one_run() -> None:
    world = World()
    world.write("2024-01-02")
    world.write("2024-01-03", table="breakdown")
    assert world.changed() == ["2024-01-02", "2024-01-03"]


def test_after_the_data_have_settled_another_run_begins() -> None:
    world = World()
    world.write("2024-01-02")
    world.runs.settled()
    assert world.changed() == ["2024-01-02"]
    world.write("2024-01-03", at="2024-01-06 04:00:00", also_named=("2024-01-02",))
    assert world.changed() == ["2024-01-03"]


def test_a_commit_that_moved_no_row_is_no_run() -> None:
    world = World()
    world.look({"daily": frozenset({"2024-01-03"})})
    assert world.changed() is None


def test_where_any_date_may_be_written_the_later_ones_are_touched() -> None:
    world = World()
    world.stamps["daily", "2024-01-01"] = AT
    world.look({"daily": None})
    assert world.changed() == ["2024-01-01"]


def test_with_a_clock_that_went_back_all_that_was_named_is_touched() -> None:
    world = World()
    world.write("2024-01-02", at="2024-01-04 03:00:00", also_named=("2024-01-03",))
    assert world.changed() == ["2024-01-02", "2024-01-03"]


def test_times_are_compared_however_they_are_spelt() -> None:
    world = World()
    world.write("2024-01-02", at=BEFORE.replace(" ", "T"), also_named=("2024-01-03",))
    world.write("2024-01-01", at=AT.replace(" ", "T"))
    assert world.changed() == ["2024-01-01"]


def test_the_first_count_is_no_change() -> None:
    world = World()
    assert world.count(COUNTS) == frozenset()
    assert world.changed() is None


def test_rows_deleted_without_a_trace_are_a_run() -> None:
    world = World()
    world.count(COUNTS)
    assert world.count({**COUNTS, "2024-01-01": 7}) == {"2024-01-01"}
    assert world.changed() == ["2024-01-01"]


def test_a_count_that_comes_after_the_run_has_settled_is_still_of_it() -> None:
    world = World()
    world.count(COUNTS)
    world.write("2024-01-02")
    world.runs.settled()
    world.count({"2024-01-02": 10, "2024-01-03": 10})
    assert world.changed() == ["2024-01-01", "2024-01-02"]
    world.count(COUNTS)
    assert world.changed() == ["2024-01-01"], "another run"


def test_a_count_that_began_before_the_commit_says_nothing_of_it() -> None:
    world = World()
    world.count(COUNTS)
    early = world.runs.mark
    world.write("2024-01-02")
    world.count(COUNTS, early)
    world.runs.settled()
    world.count({**COUNTS, "2024-01-01": 1})
    assert world.changed() == ["2024-01-01", "2024-01-02"]


def test_a_run_that_began_with_a_delete_goes_on_with_what_is_written() -> None:
    world = World()
    world.count(COUNTS)
    world.count({**COUNTS, "2024-01-01": 1})
    world.write("2024-01-03", also_named=("2024-01-02",))
    assert world.changed() == ["2024-01-01", "2024-01-03"]
