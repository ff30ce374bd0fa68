"""Which side would answer, by what is known."""

import pytest

from proxy.explaining import side_of
from proxy.freshness import Watermark
from proxy.looks import Reading


def reading(*, rows: int = 10, is_rebuilding: bool = False) -> Reading:
    return Reading(Watermark("w"), {"campaign": rows}, 1, is_rebuilding)


@pytest.mark.parametrize(
    ("known", "is_fresh", "side"),
    [
        (reading(), False, "optimized"),
        (reading(rows=0), False, "legacy"),
        (reading(is_rebuilding=True), False, "legacy"),
        (reading(is_rebuilding=True), True, "optimized"),
        (None, False, "legacy"),
    ],
)
def test_the_legacy_is_asked_where_the_tables_cannot_answer(
    known: Reading | None, is_fresh: bool, side: str
) -> None:
    assert side_of(known, is_fresh=is_fresh, has_legacy=True) == side
    assert side_of(known, is_fresh=is_fresh, has_legacy=False) == "optimized"
