"""check-db says what a database holds and lacks, and its exit code says whether it is fit."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxy.demo.data import Size, make_demo
from tests.command_line import Ran, forget_variables, run

END = date(2024, 3, 31)
TINY = Size(campaigns=2, adsets=2, ads=2, days=5)
DAILY = "daily_mixpanel_metrics"
BREAKDOWN = "daily_mixpanel_metrics_breakdown"
RATES = {"trial_conversion_rate", "trial_refund_rate", "purchase_refund_rate"}
FROM_META = {"spend", "impressions", "clicks", "meta_trials", "meta_purchases"}

Check = Callable[..., Ran]
Survey = dict[str, Any]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    forget_variables(monkeypatch)
    return lambda *words: run(monkeypatch, "check-db", *map(str, words))


@pytest.fixture
def survey(check: Check, tmp_path: Path) -> Callable[..., Survey]:
    """Makes a demo database of a variant and surveys it."""

    def made(*, has_meta: bool = False, **variant: Any) -> Survey:
        database, meta = tmp_path / "daily.db", tmp_path / "meta.db"
        make_demo(database, meta, size=TINY, end=END, **variant)
        more = ("--meta-database", meta) if has_meta else ()
        ran = check("--database", database, "--json", *more)
        found: Survey = json.loads(ran.out)
        assert (ran.code == 0) == found["ok"], ran
        return found

    return made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=TINY, end=END)
    return path


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def table(found: Survey, name: str) -> dict[str, Any]:
    [own] = [own for own in found["tables"] if own["name"] == name]
    return dict(own)


def without_indexes(path: Path, name: str) -> None:
    """The table as it was, but for its keys and indexes."""
    execute(
        path,
        f"CREATE TABLE bare AS SELECT * FROM {name}",
        f"DROP TABLE {name}",
        f"ALTER TABLE bare RENAME TO {name}",
    )


def test_the_usual_database_is_fit(survey: Callable[..., Survey]) -> None:
    found = survey()
    assert found["ok"]
    assert found["form"] == "wide"
    assert found["breakdown_counts"] == ["mixpanel_trial_count", "mixpanel_purchase_count"]
    assert (found["absent"], found["missing_indexes"], found["failures"]) == ([], [], [])
    assert set(map(tuple, found["zero_measures"].values())) == {()}


def test_it_counts_rows_and_days_and_names_the_newest(survey: Callable[..., Survey]) -> None:
    own = table(survey(), DAILY)
    assert own["rows"] == TINY.days * (2 + 4 + 8)
    assert (own["first_date"], own["last_date"]) == ("2024-03-27", "2024-03-31")
    assert (own["days"], own["days_missing"]) == (5, 0)
    assert own["newest"] == "2024-04-01 03:00:00"


def test_a_day_without_rows_is_counted_as_missing(check: Check, database: Path) -> None:
    execute(database, f"DELETE FROM {DAILY} WHERE date = '2024-03-29'")
    ran = check("--database", database)
    assert ran.code == 0
    assert "2024-03-27 to 2024-03-31, 1 days missing" in ran.out


def test_every_form_of_question_is_planned_and_fine(survey: Callable[..., Survey]) -> None:
    questions = survey()["questions"]
    assert len(questions) == 6 * 4 * 2
    assert {question["verdict"] for question in questions} == {"OK"}
    assert all(question["plan"] for question in questions)


def test_the_other_spelling_of_the_counts_is_told(survey: Callable[..., Survey]) -> None:
    found = survey(counts="users")
    assert found["breakdown_counts"] == ["trial_users_count", "purchase_users_count"]
    assert found["ok"]


def test_absent_tables_are_told_and_are_no_failure(survey: Callable[..., Survey]) -> None:
    found = survey(has_breakdown=False, has_hierarchy=False, has_updated_at=False)
    assert found["absent"] == [BREAKDOWN, "id_hierarchy_mapping"]
    assert found["ok"]
    assert table(found, "id_name_mapping")["newest"] is None
    assert {question["breakdown"] for question in found["questions"]} == {"all"}


def test_narrow_tables_have_measures_that_would_be_0(survey: Callable[..., Survey]) -> None:
    found = survey(form="narrow")
    assert (found["form"], found["meta"]) == ("narrow", "none")
    for zeros in found["zero_measures"].values():
        assert FROM_META | RATES | {"roas"} <= set(zeros)
        assert not {"trials", "purchases", "profit", "adjusted_revenue"} & set(zeros)


def test_the_meta_database_fills_in_for_narrow_tables(survey: Callable[..., Survey]) -> None:
    found = survey(form="narrow", has_meta=True)
    assert found["meta"] == "used"
    assert table(found, "ad_performance_daily")["rows"] == TINY.days * 8
    for zeros in found["zero_measures"].values():
        assert set(zeros) >= RATES
        assert not FROM_META & set(zeros)
    assert {question["verdict"] for question in found["questions"]} == {"OK"}


def test_a_meta_database_beside_wide_tables_is_not_needed(survey: Callable[..., Survey]) -> None:
    assert survey(has_meta=True)["meta"] == "not needed"


def test_a_meta_table_without_its_key_walks_history(check: Check, tmp_path: Path) -> None:
    database, meta = tmp_path / "daily.db", tmp_path / "meta.db"
    make_demo(database, meta, size=TINY, end=END, form="narrow")
    without_indexes(meta, "ad_performance_daily")
    ran = check("--database", database, "--meta-database", meta, "--json")
    assert ran.code == 1
    assert [m["columns"] for m in json.loads(ran.out)["missing_indexes"]] == [["ad_id", "date"]]


def test_a_column_that_the_wide_table_lacks_is_a_measure_that_would_be_0(
    check: Check, database: Path
) -> None:
    execute(database, f"ALTER TABLE {DAILY} DROP COLUMN meta_clicks")
    ran = check("--database", database)
    assert ran.code == 0
    assert "no breakdown: clicks" in ran.out


def test_a_missing_index_is_told_with_its_purpose(check: Check, database: Path) -> None:
    execute(database, "DROP INDEX idx_daily_metrics_computed")
    ran = check("--database", database)
    assert ran.code == 0
    assert f"ON {DAILY} (computed_at)" in ran.out
    assert "what the pipeline has written" in ran.out


@pytest.mark.parametrize("name", [DAILY, BREAKDOWN])
def test_a_question_that_walks_all_of_history_fails_the_check(
    check: Check, database: Path, name: str
) -> None:
    without_indexes(database, name)
    ran = check("--database", database)
    assert ran.code == 1
    assert "walks all of history" in ran.out
    found = json.loads(check("--database", database, "--json").out)
    asked = {q["breakdown"] for q in found["questions"] if q["walks"]}
    assert asked == ({"country", "region", "device"} | ({"all"} if name == DAILY else set()))


def test_a_hierarchy_without_an_index_is_slow_and_no_failure(check: Check, database: Path) -> None:
    without_indexes(database, "id_hierarchy_mapping")
    ran = check("--database", database)
    assert ran.code == 0
    assert "slow" in ran.out


@pytest.mark.parametrize("name", [DAILY, "id_name_mapping"])
def test_a_required_table_that_is_missing_fails_the_check(
    check: Check, database: Path, name: str
) -> None:
    execute(database, f"DROP TABLE {name}")
    for more in ((), ("--json",)):
        ran = check("--database", database, *more)
        assert ran.code == 1
        assert f"lacks the required table {name}" in ran.out
        assert ran.err == ""


def test_a_required_column_that_is_missing_fails_the_check(check: Check, database: Path) -> None:
    execute(database, "ALTER TABLE id_name_mapping RENAME COLUMN canonical_name TO name")
    ran = check("--database", database, "--json")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert found["failures"] == [
        "the table id_name_mapping lacks the required column canonical_name"
    ]


def test_verbose_shows_the_whole_plan_of_each_question(check: Check, database: Path) -> None:
    assert "idx_daily_metrics_date_type_id" not in check("--database", database).out
    ran = check("--database", database, "--verbose")
    assert ran.out.count("idx_daily_metrics_date_type_id") >= 48
    assert "campaign > adset > ad by country with sparkline: OK" in ran.out


def test_the_database_may_come_from_the_file_or_the_environment(
    check: Check, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text(f'database = "{database}"\n')
    assert check("--config", config).code == 0
    monkeypatch.setenv("PROXY_DATABASE", str(database))
    assert check().code == 0


def test_no_database_no_such_file_and_no_sqlite_are_bad_usage(check: Check, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("this is no database at all, it only looks like a file\n" * 30)
    cases = {
        (): "say which database",
        ("--database", tmp_path / "absent.db"): "no such file",
        ("--database", tmp_path): "no such file",
        ("--database", text): "not a database",
    }
    for words, reason in cases.items():
        ran = check(*words, "--json")
        assert (ran.code, ran.out) == (2, "")
        assert reason in ran.err
        assert len(ran.err.splitlines()) == 1


def test_a_meta_database_that_is_named_and_not_there_is_bad_usage(
    check: Check, database: Path, tmp_path: Path
) -> None:
    ran = check("--database", database, "--meta-database", tmp_path / "absent.db")
    assert ran.code == 2
    assert "absent.db" in ran.err


def test_a_locked_database_is_told_in_one_line(check: Check, tmp_path: Path) -> None:
    database = tmp_path / "daily.db"
    make_demo(database, None, size=TINY, end=END)
    # Two SQLite libraries in one process would not see each other's locks.
    with closing(apsw.Connection(str(database))) as writer:
        writer.pragma("journal_mode", "delete")
        writer.execute("BEGIN EXCLUSIVE")
        ran = check("--database", database)
    assert (ran.code, ran.err) == (1, "error: the database is locked\n")


def test_nothing_is_written(check: Check, database: Path) -> None:
    before = database.read_bytes()
    assert check("--database", database).code == 0
    assert database.read_bytes() == before
