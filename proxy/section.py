"""The sections of a statement's rows: what backends/statement.py writes and tree.py reads."""

from enum import IntEnum
from typing import Any

Row = tuple[Any, ...]


class Section(IntEnum):
    """First value of each row. After it: type, id, then what the table says.

    | section | 3 | 4 | 5 | 6 | from 7 |
    |---|---|---|---|---|---|
    | OWN | name | adset of an ad | rows read | newest computed_at | the cells |
    | ADSET | name | its campaign | | | |
    | CAMPAIGN | name | | | | |
    | BREAKDOWN | value | | rows read | newest computed_at | the cells |
    | SPARKLINE | date | has a row | | | SPARKLINE_CELLS, then ROAS |
    """

    OWN = 0
    ADSET = 1
    CAMPAIGN = 2
    BREAKDOWN = 3
    SPARKLINE = 4


HEAD_WIDTH = 7
