"""Capture: a copy of an answer on its way through, for whoever compares it later."""


class Room:
    """How many bytes of bodies may be kept for comparing, all together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, size: int) -> bool:
        if self.used_bytes + size > self._limit_bytes:
            return False
        self.used_bytes += size
        return True

    def give_back(self, size: int) -> None:
        self.used_bytes -= size

    def __repr__(self) -> str:
        return f"<Room {self.used_bytes} of {self._limit_bytes} bytes>"


class Capture:
    """Keeps the chunks that are relayed, as they are: neither copied nor decoded, nothing awaited.

    `lack` says in a word why there is no whole answer with status 200 here;
    it is empty when there is one. An answer longer than `limit_bytes`, or
    than `room` has left, is let go at once and goes on to its caller.
    """

    __slots__ = ("_limit_bytes", "_room", "chunks", "coding", "lack", "size")

    def __init__(self, room: Room, *, limit_bytes: int) -> None:
        self._room = room
        self._limit_bytes = limit_bytes
        self.chunks: list[bytes] = []
        self.coding = ""
        self.size = 0
        self.lack = "no_answer"

    def begin(self, status: int, coding: str) -> None:
        """The head of the answer; `coding` is its Content-Encoding."""
        self.coding = coding.strip().lower()
        if status == 200:
            self.lack = "cut_off"
        else:
            # A refusal (401, 404, 429) is about this caller: the legacy is well.
            self.lack = "legacy_error" if status >= 500 else "refused"

    def add(self, chunk: bytes) -> None:
        if self.lack != "cut_off":
            return
        if self.size + len(chunk) > self._limit_bytes or not self._room.take(len(chunk)):
            self.free()
            self.lack = "too_long"
            return
        self.size += len(chunk)
        self.chunks.append(chunk)

    def end(self) -> None:
        """All of it has gone to the caller."""
        if self.lack == "cut_off":
            self.lack = ""

    def free(self) -> None:
        """Give back what is held. Once more does nothing."""
        self._room.give_back(self.size)
        self.size = 0
        self.chunks = []

    def __repr__(self) -> str:
        return f"<Capture {self.size} bytes {self.lack or 'whole'}>"
