"""Backoff: when the next process may be started after some that did not live long. Pure."""


class Backoff:
    """No pause after one that lived for `young_s` or longer; else twice as long each time.

    All times are in seconds of one clock that never goes back.
    """

    def __init__(
        self, *, first_s: float = 0.5, most_s: float = 30.0, young_s: float = 10.0
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._young_s = young_s
        self._in_a_row = 0
        self.may_start_at = 0.0

    def ended(self, lived_s: float, now: float) -> None:
        if lived_s >= self._young_s:
            self._in_a_row = 0
            self.may_start_at = now
            return
        # Bounded before it is a number that no clock knows.
        pause_s = min(self._most_s, self._first_s * 2 ** min(self._in_a_row, 30))
        self._in_a_row += 1
        self.may_start_at = now + pause_s

    def forgive(self, now: float) -> None:
        """What ended so soon is not what is started next."""
        self._in_a_row = 0
        self.may_start_at = now

    def __repr__(self) -> str:
        return f"<Backoff in_a_row={self._in_a_row} may_start_at={self.may_start_at:g}>"
