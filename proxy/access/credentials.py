"""What a caller shows to be let in: which headers, and under which mark. Pure."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from multidict import CIMultiDict, CIMultiDictProxy

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A caller's Authorization and cookies as the legacy gets them; the repr holds none of it."""

    authorization: tuple[str, ...] = field(default=(), repr=False)
    cookies: str = field(default="", repr=False)

    def headers(self) -> Iterator[tuple[str, str]]:
        for value in self.authorization:
            yield "Authorization", value
        if self.cookies:
            yield "Cookie", self.cookies


class Mark(bytes):
    """A keyed hash that stands for credentials. Nobody gets from it what was hashed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<mark>"

    __str__ = __repr__


def credentials_of(headers: Headers, cookies: Collection[str]) -> Credentials:
    """Every Authorization there is, and the cookies named; with no names given, all cookies.

    Doubled ones stay doubled, in their order: which of them counts is for the legacy to say.
    """
    authorization = tuple(_writable(value) for value in headers.getall("Authorization", ()))
    pairs = (
        stripped
        for value in headers.getall("Cookie", ())
        for pair in value.split(";")
        if (stripped := pair.strip())
    )
    kept = (pair for pair in pairs if not cookies or pair.partition("=")[0].strip() in cookies)
    return Credentials(authorization, _writable("; ".join(kept)))


def mark_of(credentials: Credentials, key: bytes) -> Mark:
    """The mark of `credentials`; the same for equal ones under one `key` only."""
    hashed = blake2b(key=key, digest_size=32)
    for name, value in credentials.headers():
        # With its length, so that no two sets of headers run together into one text.
        data = value.encode("utf-8", "surrogateescape")
        hashed.update(f"{name} {len(data)}:".encode() + data)
    return Mark(hashed.digest())


def _writable(value: str) -> str:
    """Bytes that are no UTF-8 read as Latin-1: left out, they would make other credentials."""
    if value.isascii() or not _UNDECODED.search(value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("latin-1")
