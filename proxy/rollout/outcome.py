"""Whether our side did what it is there for, as the guard counts it. Pure."""

from proxy.answer import Answer
from proxy.errors import BackendError

TABLES_FAILED = frozenset(
    {"error", "locked", "no_database", "no_schema", "schema", "sql_error", "sql_timeout"}
)
"""Words of the database's adapters for: it could not answer."""
NEUTRAL = frozenset({"closing", "no_breakdown", "no_rows", "rebuilding"})
"""Words for: nobody could have answered from the tables just now, and nothing failed."""


def outcome_of(answer: Answer) -> bool | None:
    """True: computed from the tables. False: they failed. None: says nothing of our side.

    A hit computes nothing; of those who waited for one load only its leader counts.
    """
    if answer.result == "hit" or answer.is_collapsed:
        return None
    if answer.source == "optimized":
        return None if answer.detail in NEUTRAL or "rebuilding" in answer.warnings else True
    if answer.source == "stale":
        # The word may be the legacy's own, which failed after the tables had.
        return None if answer.detail in NEUTRAL else False
    return False if answer.detail in TABLES_FAILED else None


def outcome_of_error(error: BaseException) -> bool | None:
    """The same of a question that got no answer at all: the cause says what the tables did."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, BackendError) and link.reason in TABLES_FAILED:
            return False
        link = link.__cause__
    return None
