"""Who is on duty: work that one process at a time does."""

from typing import Protocol


class Duty(Protocol):
    """One process at a time has it, for `ttl_s` unless renewed. All raise StoreError."""

    ttl_s: float

    async def take(self) -> bool: ...

    async def renew(self) -> bool:
        """False when it was lost: another may have it by now."""
        ...

    async def give_back(self) -> None:
        """Let the next one have it. Nothing happens when it was lost."""
        ...


class OwnDuty:
    """Where nothing is shared there is nobody to agree with."""

    ttl_s = 3600.0

    async def take(self) -> bool:
        return True

    async def renew(self) -> bool:
        return True

    async def give_back(self) -> None:
        return
