"""Settings: environment, configuration file and command line, validated before anything starts.

The only file that looks at the environment of the process.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.errors import SettingsError
from proxy.settings_errors import Place, dotted, explain, hint, table_in, words_of
from proxy.settings_file import parse_file, read_text
from proxy.settings_tables import (
    CachedRoute,
    CompareTable,
    RolloutTable,
    ShadowTable,
    ShapesTable,
    SplitTable,
)
from proxy.settings_values import (
    Allowed,
    CookieNames,
    Count,
    DatabasePath,
    FilePath,
    Host,
    NotNegative,
    Origins,
    PageUrl,
    Percent,
    Port,
    Positive,
    RedisUrl,
    Share,
    SiteUrl,
    Token,
    Workers,
)

PREFIX = "PROXY_"
STATE_FILE = "proxy-state.db"


class Settings(BaseSettings):
    """Everything an operator decides. Frozen; its repr holds no secret.

    Made by `load_settings`. Made directly it takes nothing but its arguments.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    host: Host = Field("127.0.0.1", description="Where the frontend comes in.")
    port: Port = Field(8080, description="See `PROXY_HOST`.")
    admin_host: Host = Field(
        "127.0.0.1",
        description="Where operators come in: `/health/live`, `/health/ready`, `/metrics`, "
        "`/admin/…`, the console.",
    )
    admin_port: Port = Field(8081, description="See `PROXY_ADMIN_HOST`.")
    admin_token: Token = Field(
        None, description="Needed on `/admin`. Without a token `/admin` answers only loopback."
    )
    database: DatabasePath = Field(
        None,
        description="The pre-computed tables, opened read-only. Required by `serve`.",
    )
    meta_database: DatabasePath = Field(None, description="The external Meta database.")
    legacy_url: SiteUrl = Field(None, description="The application behind.")
    redis_url: RedisUrl = Field(None, description="The shared tier. Without it: memory only.")
    cors_origins: Origins = Field((), description="Origins that may read our answers.")
    rate_mode: Literal["mean", "ratio"] = Field(
        "mean", description="How rates are put together over days: mean of days or ratio of sums."
    )
    max_range_days: Count = Field(1100, description="Days that one question may span.")
    memory_mb: Count = Field(
        256,
        description="Size of the memory tier in MiB of bytes held, not entries. Several "
        "`PROXY_WORKERS` have equal parts of it.",
    )
    entry_ttl_s: Positive = Field(
        604800, description="Seconds that an entry is kept: a bound, not the freshness rule."
    )
    freshness: Literal["strict", "poll"] = Field(
        "strict",
        description="`strict`: the database's commit counter is looked at on each cached answer; "
        "`poll`: every `PROXY_POLL_MS`.",
    )
    poll_ms: Positive = Field(250, description="Milliseconds between looks.")
    rebuild_hold_s: NotNegative = Field(
        900, description="Seconds that data which went missing are waited for."
    )
    query_timeout_s: Positive = Field(10, description="Seconds that one SQL question may take.")
    legacy_timeout_s: Positive = Field(120, description="Seconds that the legacy API may take.")
    split_percent: Percent = Field(
        100, description="Share of `/analytics/data` that we answer, in percent."
    )
    shadow_rate: Share = Field(
        0,
        description="Share of those questions that is also put to the other side. "
        "In the file also as `rate` in `[shadow]`.",
    )
    state: FilePath = Field(
        Path(STATE_FILE),
        description="Small SQLite file for what must survive a restart. The default stands "
        "beside the configuration file, without one in the working directory.",
    )
    auth: Literal["off", "forward"] = Field(
        "off", description="`forward`: cached answers only for those the legacy lets in."
    )
    auth_url: PageUrl = Field(
        None,
        description="What is asked whether a caller is let in: 2xx is yes, 401 and 403 are no. "
        "Default: the root (`/`) of the legacy.",
    )
    auth_ttl_s: NotNegative = Field(
        30, description="Seconds that its yes is believed, from when it was asked."
    )
    auth_cookies: CookieNames = Field(
        (),
        description="Cookies that it is asked about, beside `Authorization`. None named: all "
        "that the caller sends.",
    )
    max_connections_per_address: Count = Field(
        10_000,
        description="Connections to the public port that one address may have at a time, in each "
        "process. A proxy in front counts as one address.",
    )
    workers: Workers = Field(1, description="Processes that share the port: see docs/workers.md.")
    log_format: Literal["auto", "json", "human"] = Field(
        "auto", description="`auto`: `human` on a terminal, else `json`."
    )

    split: SplitTable = Field(SplitTable(), description="How callers are dealt to the two sides.")
    shadow: ShadowTable = Field(ShadowTable(), description="How both sides are asked.")
    compare: CompareTable = Field(CompareTable(), description="When two answers differ.")
    rollout: Annotated[RolloutTable | None, Allowed("a table")] = Field(
        None, description="The guard. Without this table there is none."
    )
    cached_routes: tuple[CachedRoute, ...] = Field(
        (), description="Routes of the legacy API whose answers are kept."
    )
    shapes: ShapesTable = Field(ShapesTable(), description="More fields in the rows of a shape.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: load_settings merges, so that an error can say who set the value."""
        return (init_settings,)

    @property
    def extra_fields(self) -> Mapping[str, Mapping[str, str]]:
        """Shape -> field -> expression: what `[shapes]` adds to the rows."""
        return {
            "dashboard": self.shapes.dashboard.fields,
            "analytics": self.shapes.analytics.fields,
        }

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.port and (self.host, self.port) == (self.admin_host, self.admin_port):
            raise ValueError(f"PROXY_PORT and PROXY_ADMIN_PORT are both {self.port}: one must move")
        if self.auth == "forward" and self.auth_url is None and self.legacy_url is None:
            raise ValueError(
                "PROXY_AUTH is 'forward': it needs PROXY_AUTH_URL or PROXY_LEGACY_URL to ask"
            )
        if self.auth_url is not None and "@" in self.auth_url.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "PROXY_AUTH_URL has a user in it: only the callers' own credentials are asked about"
            )
        return self


@dataclass(frozen=True, slots=True)
class Documented:
    """One line of docs/configuration.md. `table` is empty for variables."""

    table: str
    name: str
    default: str
    what: str


def environment() -> Mapping[str, str]:
    """The environment of this process, for load_settings."""
    return os.environ


def load_settings(
    config: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    text: str | None = None,
) -> Settings:
    """Settings from `overrides` (None: not given), else `environ`, else the file, else defaults.

    `text` is what stands in the file, where that has been read already.
    Raises SettingsError with one text: a line for each name that is unknown
    and each value that cannot be, in the operator's own spelling.
    """
    unknown: list[str] = []
    from_file: dict[str, Any] = {}
    if config is not None:
        from_file = parse_file(read_text(config) if text is None else text, config)
    from_environ = _from_environ(environ, unknown)
    given = {name: value for name, value in overrides.items() if value is not None}
    merged: dict[str, Any] = {**from_file, **from_environ, **given}
    if config is not None:
        merged.setdefault("state", config.parent / STATE_FILE)

    def name_of(place: Place) -> str:
        top = str(place[0])
        if top in given:
            return f"--{dotted(place).replace('_', '-')}"
        if top in from_environ:
            return PREFIX + top.upper()
        return f"{dotted(place)} in {config}"

    try:
        settings = Settings(**merged)
    except ValidationError as error:
        # Not chained: its details hold the values, secrets too.
        raise SettingsError("\n".join([*unknown, *explain(error, Settings, name_of)])) from None
    if unknown:
        raise SettingsError("\n".join(unknown))
    return settings


def variables() -> dict[str, str]:
    """Names of the environment, each with the field that it sets."""
    fields = Settings.model_fields.items()
    return {PREFIX + name.upper(): name for name, f in fields if table_in(f.annotation) is None}


def _from_environ(environ: Mapping[str, str], unknown: list[str]) -> dict[str, str]:
    """Fields set by PROXY_ variables. An empty one counts as not set: env files have such lines."""
    known = variables()
    found: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            unknown.append(f"{name} is no known setting.{hint(name, known)}")
        elif value.strip():
            found[known[name]] = value
    return found


def documented() -> Iterator[Documented]:
    """Every setting there is, in the order of the page."""
    for variable, name in variables().items():
        yield _document("", variable, Settings.model_fields[name])
    for name, field in Settings.model_fields.items():
        yield from _document_table(name, field)


def _document_table(path: str, field: FieldInfo) -> Iterator[Documented]:
    table = table_in(field.annotation)
    if table is None:
        return
    for name, inner in table.model_fields.items():
        if table_in(inner.annotation) is None:
            yield _document(path, name, inner)
        else:
            yield from _document_table(f"{path}.{name}", inner)


def _document(table: str, name: str, field: FieldInfo) -> Documented:
    what = f"{field.description} May be: {words_of(field)}."
    return Documented(table, name, _default_text(field), what)


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ", ".join(map(str, default)) or "none"
    if default is None or default == {}:
        return "none"
    return '""' if default == "" else str(default)
