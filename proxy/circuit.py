"""Circuit: when to stop asking a system that is down, and when to try it again."""

from proxy.clock import Clock


class Circuit:
    """Lets calls through until `failures` in a row fail; then for a while none, then one to try.

    The first pause lasts `pause_s` and each failed try doubles it, up to
    `longest_pause_s`. A call asks `admit` for a ticket and hands it back with
    how it went. A try has `try_s` to do so before another is let through; one
    that ends otherwise (cancelled) may hand it back with `gave_up`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        failures: int = 1,
        pause_s: float = 1.0,
        longest_pause_s: float = 10.0,
        try_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._most_failures = failures
        self._shortest_s = pause_s
        self._longest_s = longest_pause_s
        self._try_s = try_s
        self._pause_s = pause_s
        self._retry_at: float | None = None
        self._ticket = 0
        self._failures = 0

    @property
    def is_open(self) -> bool:
        """Down, as far as is known."""
        return self._retry_at is not None

    @property
    def retry_in_s(self) -> float:
        """How long nothing is let through from now on; 0 when something would be."""
        if self._retry_at is None:
            return 0.0
        return max(0.0, self._retry_at - self._clock.monotonic())

    def admit(self) -> int | None:
        """A ticket, or None: not now."""
        if self._retry_at is None:
            return self._ticket
        now = self._clock.monotonic()
        if now < self._retry_at:
            return None
        # The try claims the next pause: those who come while it runs are
        # refused, and a try that never reports does not keep the circuit open.
        self._retry_at = now + max(self._pause_s, self._try_s)
        self._ticket += 1
        return self._ticket

    def failed(self, ticket: int) -> bool:
        """Report a failure; True when it is the one that opened the circuit."""
        if ticket != self._ticket:
            # Begun before the outage was known: a hundred calls that time out
            # together are one failure, not a hundred.
            return False
        has_opened = self._retry_at is None
        if has_opened:
            self._failures += 1
            if self._failures < self._most_failures:
                return False
        self._pause_s = self._shortest_s if has_opened else min(self._pause_s * 2, self._longest_s)
        self._retry_at = self._clock.monotonic() + self._pause_s
        self._ticket += 1
        return has_opened

    def succeeded(self, ticket: int) -> bool:
        """Report a success; True when it is the one that closed the circuit."""
        if ticket != self._ticket:
            return False
        self._failures = 0
        has_closed = self._retry_at is not None
        self._retry_at = None
        return has_closed

    def gave_up(self, ticket: int) -> None:
        """Report a call that ended without an outcome: the next try is a pause later."""
        if ticket == self._ticket and self._retry_at is not None:
            self._retry_at = self._clock.monotonic() + self._pause_s

    def __repr__(self) -> str:
        if self._retry_at is None:
            return "<Circuit closed>"
        return f"<Circuit open, next try in {self.retry_in_s:.1f} s>"
