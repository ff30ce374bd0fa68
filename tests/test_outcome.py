"""What the guard hears of an answer: we did it, we failed, or nothing."""

from dataclasses import replace

import pytest

from proxy.answer import Answer, Result, Source
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.payload import Payload
from proxy.rollout.outcome import outcome_of, outcome_of_error

PAYLOAD = Payload.of(b"{}")


@pytest.mark.parametrize(
    ("source", "result", "detail", "is_ok"),
    [
        ("optimized", "miss", "", True),
        ("optimized", "stale", "", True),
        ("optimized", "miss", "unsettled", True),
        ("optimized", "miss", "purged", True),
        ("optimized", "hit", "", None),
        ("optimized", "hit", "redis", None),
        ("optimized", "hit", "rebuilding", None),
        ("optimized", "miss", "rebuilding", None),
        ("optimized", "miss", "no_breakdown", None),
        ("stale", "hit", "unverified", None),
        ("legacy", "miss", "sql_error", False),
        ("legacy", "miss", "sql_timeout", False),
        ("legacy", "miss", "locked", False),
        ("legacy", "stale", "no_database", False),
        ("legacy", "miss", "schema", False),
        ("legacy", "miss", "no_schema", False),
        ("legacy", "miss", "no_rows", None),
        ("legacy", "miss", "no_breakdown", None),
        ("legacy", "miss", "rebuilding", None),
        ("stale", "stale", "sql_error", False),
        ("stale", "stale", "legacy_down", False),
        ("stale", "stale", "rebuilding", None),
        ("stale", "stale", "closing", None),
    ],
)
def test_only_tables_that_failed_count_against_us(
    source: Source, result: Result, detail: str, is_ok: bool | None
) -> None:
    answer = Answer(PAYLOAD, source, result, detail=detail)
    assert outcome_of(answer) is is_ok
    assert outcome_of(replace(answer, is_collapsed=True)) is None


def test_an_answer_that_says_it_was_made_while_rebuilding_says_nothing() -> None:
    answer = Answer(PAYLOAD, "optimized", "miss", warnings=("rebuilding",))
    assert outcome_of(answer) is None


def caused_by(error: BackendError, *causes: BackendError) -> BackendError:
    link: BaseException = error
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_ok"),
    [
        (BackendTimeout("", reason="sql_timeout"), False),
        (BackendUnavailable("", reason="no_database"), False),
        (BackendUnavailable("", reason="closing"), None),
        (
            caused_by(BackendError("", reason="legacy_error"), BackendError("", reason="locked")),
            False,
        ),
        (
            caused_by(BackendError("", reason="legacy_error"), BackendError("", reason="no_rows")),
            None,
        ),
        (
            caused_by(
                BackendError("", reason="rebuilding"), BackendError("", reason="legacy_timeout")
            ),
            None,
        ),
    ],
)
def test_of_a_question_without_an_answer_the_cause_is_told(
    error: BackendError, is_ok: bool | None
) -> None:
    assert outcome_of_error(error) is is_ok
