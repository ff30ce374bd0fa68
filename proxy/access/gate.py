"""What a Doorman asks."""

from typing import Protocol

from proxy.access.credentials import Credentials
from proxy.access.verdict import Refusal


class Gate(Protocol):
    """Whoever decides who is let in."""

    async def ask(self, credentials: Credentials) -> Refusal | None:
        """None: let in. BackendError when there is no verdict."""
