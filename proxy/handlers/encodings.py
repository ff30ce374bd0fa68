"""The body of an answer in the coding a caller takes, made once for all who want it."""

from collections.abc import Callable

from proxy.answer import Answer
from proxy.compression import SMALLEST_BYTES, encoded
from proxy.handlers.negotiation import choose_coding
from proxy.query import Key
from proxy.single_flight import SingleFlight


class Encodings:
    """Compresses a body once, also when many ask for it at the same moment, and has it kept.

    `keep(key, etag, coding, data)` puts the made bytes beside the entry they belong to.
    """

    def __init__(
        self,
        flights: SingleFlight[tuple[str, str], bytes],
        keep: Callable[[Key, str, str, bytes], None],
    ) -> None:
        self._flights = flights
        self._keep = keep

    async def body(self, answer: Answer, accept_encoding: str) -> tuple[str | None, bytes]:
        """The coding chosen for `accept_encoding`, None for as it is, and the bytes in it."""
        payload = answer.payload
        if len(payload.body) < SMALLEST_BYTES:
            return None, payload.body
        coding = choose_coding(accept_encoding)
        if coding is None:
            return None, payload.body
        if (known := payload.encodings.get(coding)) is not None:
            return coding, known
        flown = await self._flights.run((payload.etag, coding), lambda: encoded(payload, coding))
        if answer.key is not None and flown.led:
            self._keep(answer.key, payload.etag, coding, flown.value)
        return coding, flown.value
