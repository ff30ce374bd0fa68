"""What a single setting may be: types that parse text and say in words what they accept."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_core import core_schema

_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HARMLESS = re.compile(r"([a-z+]+://)?[\w.-]+(:\d{1,5})?(/[\w./-]*)?")


@dataclass(frozen=True, slots=True)
class Allowed:
    """The words that an error uses for what a setting may be."""

    words: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Marks a setting that holds a password or is one, and then `is_whole`."""

    is_whole: bool = False


class SecretUrl(str):
    """A URL that may hold a password: its repr and its errors show everything but that."""

    __slots__ = ()

    @property
    def masked(self) -> str:
        return mask_url(self)

    def __repr__(self) -> str:
        return repr(self.masked)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(cls)


def mask_url(text: str) -> str:
    """Hide credentials before an `@`, and a `password` or `token` in the query.

    An unescaped `@` or `/` in a password must not uncover its end, so all up
    to the last `@` is taken for credentials.
    """
    hidden = re.sub(r"(?<=://).*@", "***@", text)
    return re.sub(r"(?i)([?&](?:password|token)=)[^&#]*", r"\1***", hidden)


def show(value: object, metadata: list[Any]) -> str:
    """A value for an error's text. Of a secret only what cannot hold a password."""
    secret = next((item for item in metadata if isinstance(item, Secret)), None)
    text = repr(value)
    if secret is not None and (secret.is_whole or not _HARMLESS.fullmatch(str(value))):
        return "***"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _reject_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")
    return value


def _blank_to_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _parse_cookie(name: object) -> object:
    if isinstance(name, str) and not _COOKIE.fullmatch(name):
        raise ValueError("no name of a cookie")
    return name


def parse_database(value: object) -> object:
    """A Path from a plain path, `sqlite:///path` or `file:path`.

    Of parameters only `mode=ro`, which is how it is opened anyway, passes:
    `immutable=1` on a file that changes gives wrong numbers.
    """
    if not isinstance(value, str):
        return value
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", value)
    if scheme is None:
        if value.startswith(":"):
            raise ValueError("not a file")
        return Path(value)
    parts = urlsplit(value)
    if parts.scheme not in ("sqlite", "file") or parts.netloc not in ("", "localhost"):
        raise ValueError("not a path and not a URL of a local file")
    if parts.query not in ("", "mode=ro") or parts.fragment or not parts.path.strip("/"):
        raise ValueError("more or less than a path")
    # sqlite:////data/x.db is as common as sqlite:///data/x.db: both mean /data/x.db.
    return Path(re.sub("^/+", "/", unquote(parts.path)))


def parse_url(text: object, schemes: tuple[str, ...], *, may_have_query: bool) -> object:
    """A SecretUrl without a trailing slash. ValueError tells what is wrong without the value."""
    if not isinstance(text, str):
        return text
    parts = urlsplit(text)
    if parts.scheme not in schemes or re.search(r"\s", text):
        raise ValueError("another scheme")
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("no path")
        return SecretUrl(text)
    if not parts.hostname or parts.port == 0:
        raise ValueError("no host or a bad port")
    if parts.fragment or (parts.query and not may_have_query) or (not parts.query and "?" in text):
        raise ValueError("a query")
    return SecretUrl(text.rstrip("/"))


def _parse_site(value: object) -> object:
    return parse_url(value, ("http", "https"), may_have_query=False)


def _parse_page(value: object) -> object:
    return parse_url(value, ("http", "https"), may_have_query=True)


def _parse_redis(value: object) -> object:
    return parse_url(value, ("redis", "rediss", "unix"), may_have_query=True)


def parse_origin(value: object) -> object:
    """An origin as browsers send it: scheme and host in lower case, no path."""
    if not isinstance(value, str):
        return value
    origin = value.rstrip("/").lower()
    if not re.fullmatch(r"https?://[a-z0-9.\-_\[\]:]+", origin) or not urlsplit(origin).hostname:
        raise ValueError("not an origin")
    return origin


_number = BeforeValidator(_reject_bool)
_optional = BeforeValidator(_blank_to_none)

Host = Annotated[str, Field(min_length=1), Allowed("a host name or an IP address")]
Port = Annotated[
    int, _number, Field(ge=0, le=65535), Allowed("a whole number, 0 (any free port) to 65535")
]
Count = Annotated[int, _number, Field(ge=1), Allowed("a whole number, 1 or more")]
Workers = Annotated[int, _number, Field(ge=1, le=256), Allowed("a whole number, 1 to 256")]
Positive = Annotated[
    float, _number, Field(gt=0, allow_inf_nan=False), Allowed("a number greater than 0")
]
NotNegative = Annotated[
    float, _number, Field(ge=0, allow_inf_nan=False), Allowed("a number, 0 or more")
]
Percent = Annotated[
    float, _number, Field(ge=0, le=100, allow_inf_nan=False), Allowed("a number, 0 to 100")
]
Share = Annotated[
    float, _number, Field(ge=0, le=1, allow_inf_nan=False), Allowed("a number, 0 to 1")
]
Flag = Annotated[bool, Allowed("true or false")]
Text = Annotated[str, Allowed("text")]
Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas), Allowed("a list of texts")]
CookieNames = Annotated[
    tuple[Annotated[str, BeforeValidator(_parse_cookie)], ...],
    BeforeValidator(_split_commas),
    Allowed("names of cookies, divided by commas"),
]
FilePath = Annotated[Path, Field(), Allowed("the path of a file")]
DatabasePath = Annotated[
    Path | None,
    BeforeValidator(parse_database),
    _optional,
    Allowed("a path, sqlite:///PATH or file:PATH"),
]
SiteUrl = Annotated[
    SecretUrl | None,
    BeforeValidator(_parse_site),
    _optional,
    Secret(),
    Allowed("an http:// or https:// URL without a query"),
]
PageUrl = Annotated[
    SecretUrl | None,
    BeforeValidator(_parse_page),
    _optional,
    Secret(),
    Allowed("an http:// or https:// URL"),
]
Token = Annotated[SecretStr | None, _optional, Secret(is_whole=True), Allowed("text")]
RedisUrl = Annotated[
    SecretUrl | None,
    BeforeValidator(_parse_redis),
    _optional,
    Secret(),
    Allowed("redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH"),
]
Origins = Annotated[
    tuple[Annotated[str, BeforeValidator(parse_origin)], ...],
    BeforeValidator(_split_commas),
    Allowed("origins like https://app.example.com, divided by commas"),
]
