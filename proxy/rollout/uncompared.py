"""Why a sampled question was not compared: a word for the ledger."""


class UncomparedError(Exception):
    """Nothing can be said of this sample. `word` says why."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class DiscardedError(UncomparedError):
    """The two answers are not of the same data, or one is not whole: neither side is to blame."""


class SideFailedError(UncomparedError):
    """A side had no answer to compare."""
