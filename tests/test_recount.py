from collections.abc import Mapping

from proxy.background import Background
from proxy.looks import TableWord
from proxy.recount import Recount
from tests.gates import Gates
from tests.scripted_looks import ScriptedLooks


async def test_a_commit_that_is_seen_while_the_proxy_leaves_is_not_counted() -> None:
    counted: list[TableWord] = []

    def compare(table: TableWord, rows: Mapping[str, int]) -> None:
        counted.append(table)

    async with Background() as background:
        recount = Recount(ScriptedLooks(Gates()), background, lambda: 0, compare, after_s=0)
    recount.again()
    await recount.now()
    assert counted == []
