"""The list of changes: the newest first, and not without end."""

from structlog.testing import capture_logs

from proxy.audit import Audit, Record
from tests.clocks import HandClock


def test_a_change_is_kept_with_who_and_why_and_logged() -> None:
    clock = HandClock(100.0)
    audit = Audit(clock)
    with capture_logs() as logs:
        audit.note("purge", author="ann", reason="doubt", before={"all": True}, after=3)
    assert audit.latest() == [Record(100.0, "ann", "purge", {"all": True}, 3, "doubt")]
    assert [(line["event"], line["action"], line["author"]) for line in logs] == [
        ("audit", "purge", "ann")
    ]


def test_the_newest_stand_first_and_the_oldest_are_forgotten() -> None:
    audit = Audit(HandClock(), most_kept=2)
    for action in ("one", "two", "three"):
        audit.note(action, author="", reason="")
    assert [record.action for record in audit.latest()] == ["three", "two"]
    assert [record.action for record in audit.latest(1)] == ["three"]
    assert repr(audit) == "<Audit 2/2>"
