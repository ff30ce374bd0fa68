"""FileDuty: a duty that processes of one machine agree on by a lock on a file."""

import errno
import fcntl
import os
from pathlib import Path

from proxy.errors import StoreError

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class FileDuty:
    """Whoever has the lock has the duty. The system frees it when its holder ends, however.

    The file is made when the duty is first asked for, and stays. Deleted or replaced
    meanwhile, the duty of its holder is lost. Where it cannot be made for want of the
    right to, everybody has the duty: nothing that is decided can be kept there either.
    """

    def __init__(self, path: Path, *, ttl_s: float = 5.0) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.ttl_s = ttl_s

    async def take(self) -> bool:
        # Without an await from the first call to the last: nobody who is cancelled
        # in between leaves a lock behind that no one knows of.
        if await self.renew():
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                return True
            raise StoreError(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise StoreError(f"{self._path}: {error.strerror}") from error
        self._descriptor = descriptor
        # Another may have put a new file there between the two calls.
        return await self.renew()

    async def renew(self) -> bool:
        if self._descriptor is None:
            return False
        held = os.fstat(self._descriptor)
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        if found is not None and os.path.samestat(held, found):
            return True
        await self.give_back()
        return False

    async def give_back(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"<FileDuty {self._path.name} held={self._descriptor is not None}>"
