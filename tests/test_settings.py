import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from proxy.errors import SettingsError
from proxy.settings import (
    Documented,
    Settings,
    documented,
    environment,
    load_settings,
    variables,
)
from proxy.settings_tables import RolloutTable

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "proxy.toml"


def refused(
    environ: dict[str, str] | None = None, toml: str | None = None, config: Path | None = None
) -> str:
    if config is not None:
        config.write_text(toml or "")
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {}, environ or {})
    return str(caught.value)


def from_file(config: Path, toml: str) -> Settings:
    config.write_text(toml)
    return load_settings(config, {}, {})


def test_nothing_given_gives_the_documented_defaults() -> None:
    settings = load_settings(None, {}, {})
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.admin_host, settings.admin_port) == ("127.0.0.1", 8081)
    assert settings.admin_token is None
    assert settings.database is None
    assert settings.meta_database is None
    assert settings.legacy_url is None
    assert settings.redis_url is None
    assert settings.cors_origins == ()
    assert settings.rate_mode == "mean"
    assert settings.max_range_days == 1100
    assert settings.memory_mb == 256
    assert settings.entry_ttl_s == 604800
    assert (settings.freshness, settings.poll_ms) == ("strict", 250)
    assert settings.rebuild_hold_s == 900
    assert (settings.query_timeout_s, settings.legacy_timeout_s) == (10, 120)
    assert (settings.split_percent, settings.shadow_rate) == (100, 0)
    assert settings.state == Path("proxy-state.db")
    assert (settings.auth, settings.auth_url, settings.auth_ttl_s) == ("off", None, 30)
    assert (settings.workers, settings.log_format) == (1, "auto")
    assert settings.rollout is None


def test_command_line_wins_over_environment_wins_over_file(config: Path) -> None:
    config.write_text("port = 1\nworkers = 1\nmemory_mb = 1\n")
    environ = {"PROXY_WORKERS": "2", "PROXY_MEMORY_MB": "2", "PATH": "/bin"}
    settings = load_settings(config, {"memory_mb": 3, "host": None}, environ)
    assert (settings.port, settings.workers, settings.memory_mb) == (1, 2, 3)
    assert settings.host == "127.0.0.1"


def test_an_empty_variable_counts_as_not_set(config: Path) -> None:
    config.write_text("port = 1\n")
    settings = load_settings(config, {}, {"PROXY_PORT": "", "PROXY_ADMIN_TOKEN": " "})
    assert settings.port == 1
    assert settings.admin_token is None


def test_the_process_environment_is_looked_at_only_when_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROXY_PORT", "1234")
    assert load_settings(None, {}, {}).port == 8080
    assert Settings().port == 8080
    assert load_settings(None, {}, environment()).port == 1234
    assert environment() is os.environ


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PROXY_PORT", "65536", "a whole number, 0 (any free port) to 65535"),
        ("PROXY_ADMIN_PORT", "-1", "a whole number, 0 (any free port) to 65535"),
        ("PROXY_PORT", "http", "a whole number, 0 (any free port) to 65535"),
        ("PROXY_SPLIT_PERCENT", "100.5", "a number, 0 to 100"),
        ("PROXY_SPLIT_PERCENT", "nan", "a number, 0 to 100"),
        ("PROXY_SHADOW_RATE", "1.5", "a number, 0 to 1"),
        ("PROXY_QUERY_TIMEOUT_S", "0", "a number greater than 0"),
        ("PROXY_LEGACY_TIMEOUT_S", "inf", "a number greater than 0"),
        ("PROXY_POLL_MS", "0", "a number greater than 0"),
        ("PROXY_ENTRY_TTL_S", "-5", "a number greater than 0"),
        ("PROXY_REBUILD_HOLD_S", "-5", "a number, 0 or more"),
        ("PROXY_MAX_RANGE_DAYS", "0", "a whole number, 1 or more"),
        ("PROXY_WORKERS", "two", "a whole number, 1 to 256"),
        ("PROXY_RATE_MODE", "median", "mean or ratio"),
        ("PROXY_FRESHNESS", "loose", "strict or poll"),
        ("PROXY_LOG_FORMAT", "xml", "auto or json or human"),
        ("PROXY_AUTH", "on", "off or forward"),
        ("PROXY_LEGACY_URL", "ftp://legacy", "an http:// or https:// URL without a query"),
        ("PROXY_LEGACY_URL", "legacy:5001", "an http:// or https:// URL without a query"),
        ("PROXY_REDIS_URL", "http://cache", "redis://HOST:PORT/DB"),
        ("PROXY_REDIS_URL", "redis://cache:99999", "redis://HOST:PORT/DB"),
        ("PROXY_DATABASE", "postgres://h/d", "a path, sqlite:///PATH or file:PATH"),
        ("PROXY_DATABASE", ":memory:", "a path, sqlite:///PATH or file:PATH"),
        ("PROXY_DATABASE", "file:/d.db?immutable=1", "a path, sqlite:///PATH or file:PATH"),
        ("PROXY_META_DATABASE", "sqlite://h/d", "a path, sqlite:///PATH or file:PATH"),
        ("PROXY_CORS_ORIGINS", "*", "origins like https://app.example.com"),
    ],
)
def test_a_bad_value_is_named_with_what_it_may_be(name: str, value: str, allowed: str) -> None:
    assert refused({name: value}).startswith(f"{name} is '{value}': it may be {allowed}")


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("port = true", "port in {} is True: it may be a whole number"),
        ("[split]\nidentity = 'ip'", "split.identity in {} is 'ip': it may be cookie:NAME"),
        ("[split]\nidentity = 'cookie:'", "split.identity in {} is 'cookie:': it may be"),
        ("[shadow]\nqueue = 0", "shadow.queue in {} is 0: it may be a whole number, 1 or more"),
        ("[shadow]\nrate = 2", "shadow_rate in {} is 2: it may be a number, 0 to 1"),
        ("[compare]\nrelative = -1", "compare.relative in {} is -1: it may be a number, 0 or more"),
        ("[compare]\nfields.spend.floor = 'x'", "compare.fields.spend.floor in {} is 'x': it may"),
        ("[rollout]\nsteps = [5, 1]", "rollout.steps in {} is [5, 1]: it may be a list of perc"),
        ("[rollout]\nsteps = [50, 101]", "rollout.steps in {} is [50, 101]: it may be a list"),
        ("[rollout]\nsteps = []", "rollout.steps in {} is []: it may be a list of percents"),
        ("[[cached_routes]]\npath = 'x'", "cached_routes[0].path in {} is 'x': it may be a path"),
        ("[[cached_routes]]\nmethods = ['GET']", "cached_routes[0].path in {} is missing: it may"),
        ("[shapes.analytics.fields]\nx = 1", "shapes.analytics.fields.x in {} is 1: it may be a"),
        ("split = 3", "split in {} is 3: it may be a table"),
        ("cached_routes = 3", "cached_routes in {} is 3: it may be a list of tables"),
    ],
)
def test_a_bad_value_of_the_file_is_named_as_it_stands_there(
    config: Path, toml: str, text: str
) -> None:
    assert refused(toml=toml, config=config).startswith(text.format(config))


def test_a_bad_value_of_the_command_line_is_named_as_its_option() -> None:
    with pytest.raises(SettingsError, match=r"^--split-percent is 101: it may be a number, 0 to"):
        load_settings(None, {"split_percent": 101}, {"PROXY_SPLIT_PERCENT": "5"})
    with pytest.raises(SettingsError, match=r"^--workers is 257: it may be a whole number, 1 to"):
        load_settings(None, {"workers": 257}, {})


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("prot = 1", "prot in {} is no known setting. Did you mean port?"),
        ("PROXY_PORT = 1", "PROXY_PORT in {} is no known setting."),
        ("[spilt]\nsalt = ''", "spilt in {} is no known setting. Did you mean split?"),
        ("[split]\nslat = ''", "split.slat in {} is no known setting. Did you mean salt?"),
        ("[shadow]\nworkers = 1", "shadow.workers in {} is no known setting."),
        ("[compare]\nfields.spend.relativ = 1", "compare.fields.spend.relativ in {} is no known"),
        ("[rollout]\nstep = [1]", "rollout.step in {} is no known setting. Did you mean steps?"),
        ("[[cached_routes]]\npath='/x'\nttl=1", "cached_routes[0].ttl in {} is no known setting."),
        ("[shapes.table.fields]\nx = 'y'", "shapes.table in {} is no known setting."),
        ("[shapes.analytics]\nx = 'y'", "shapes.analytics.x in {} is no known setting."),
    ],
)
def test_an_unknown_name_of_the_file_is_refused(config: Path, toml: str, text: str) -> None:
    assert refused(toml=toml, config=config).startswith(text.format(config))


def test_an_unknown_variable_is_refused_with_the_nearest_known_one() -> None:
    text = refused({"PROXY_ADMIN_TOKN": "sesame"})
    assert text == "PROXY_ADMIN_TOKN is no known setting. Did you mean PROXY_ADMIN_TOKEN?"


def test_a_table_of_the_file_cannot_come_from_a_variable() -> None:
    assert refused({"PROXY_SPLIT": "{}"}).startswith("PROXY_SPLIT is no known setting.")


def test_everything_wrong_is_said_at_once() -> None:
    lines = refused({"PROXY_PORT": "x", "PROXY_WORKERS": "0", "PROXY_NO": "1"}).splitlines()
    assert [line.split()[0] for line in lines] == ["PROXY_NO", "PROXY_PORT", "PROXY_WORKERS"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/data/x.db", "/data/x.db"),
        ("data/x y.db", "data/x y.db"),
        ("/data/50%25.db", "/data/50%25.db"),
        ("sqlite:///data/x.db", "/data/x.db"),
        ("sqlite:////data/x.db", "/data/x.db"),
        ("file:/data/x%20y.db", "/data/x y.db"),
        ("file:///data/x.db?mode=ro", "/data/x.db"),
        ("file://localhost/data/x.db", "/data/x.db"),
        ("file:x.db", "x.db"),
    ],
)
def test_the_database_may_be_a_path_or_a_url(text: str, path: str) -> None:
    settings = load_settings(None, {}, {"PROXY_DATABASE": text, "PROXY_META_DATABASE": text})
    assert settings.database == settings.meta_database == Path(path)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u:p@h:1/2?x=1", "unix:///tmp/redis.sock", "redis://[::1]:6379/0"]
)
def test_redis_urls_stay_as_they_are(url: str) -> None:
    assert load_settings(None, {}, {"PROXY_REDIS_URL": url}).redis_url == url


def test_the_legacy_url_loses_its_last_slash_and_keeps_its_path() -> None:
    settings = load_settings(None, {}, {"PROXY_LEGACY_URL": "http://legacy:5001/app/"})
    assert settings.legacy_url == "http://legacy:5001/app"


@pytest.mark.parametrize(
    "value", ["https://A.example, http://b:8000/,", "https://a.example,http://b:8000"]
)
def test_origins_are_divided_by_commas(value: str) -> None:
    settings = load_settings(None, {}, {"PROXY_CORS_ORIGINS": value})
    assert settings.cors_origins == ("https://a.example", "http://b:8000")


def test_origins_of_the_file_are_a_list(config: Path) -> None:
    settings = from_file(config, 'cors_origins = ["https://a.example"]')
    assert settings.cors_origins == ("https://a.example",)


def test_secrets_show_in_no_repr() -> None:
    settings = load_settings(
        None,
        {"rollout": RolloutTable(webhook="https://hooks.example/hush")},
        {
            "PROXY_ADMIN_TOKEN": "hush",
            "PROXY_REDIS_URL": "redis://:hush@cache:6379/0?password=hush",
            "PROXY_LEGACY_URL": "http://user:hush@legacy",
            "PROXY_AUTH_URL": "http://auth/x?token=hush",
        },
    )
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)
    assert "redis://***@cache:6379/0" in repr(settings)
    assert settings.redis_url == "redis://:hush@cache:6379/0?password=hush"
    assert isinstance(settings.admin_token, SecretStr)
    assert settings.admin_token.get_secret_value() == "hush"


@pytest.mark.parametrize(
    "environ",
    [
        {"PROXY_REDIS_URL": "redis://:hush@cache:x"},
        {"PROXY_REDIS_URL": "redis://:hush"},
        {"PROXY_REDIS_URL": "redis://u:hu/sh@cache@:1"},
        {"PROXY_REDIS_URL": "cache:6379?password=hush"},
        {"PROXY_LEGACY_URL": "http://user:hush@legacy/?x=1"},
        {"PROXY_ADMIN_TOKEN": "hush", "PROXY_PORT": "x"},
    ],
)
def test_secrets_show_in_no_error(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {}, environ)
    assert "hush" not in str(caught.value)
    assert "hu/sh" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_secrets_of_the_file_show_in_no_error(config: Path) -> None:
    text = refused(toml="admin_token = 471147\n[rollout]\nwebhook = 'hooks/hush'", config=config)
    assert "admin_token" in text
    assert "rollout.webhook" in text
    assert "471147" not in text
    assert "hush" not in text


def test_state_stands_beside_the_file_unless_it_is_named(config: Path) -> None:
    assert from_file(config, "").state == config.parent / "proxy-state.db"
    assert from_file(config, "state = '/x/y.db'").state == Path("/x/y.db")
    assert load_settings(config, {}, {"PROXY_STATE": "z.db"}).state == Path("z.db")


def test_the_rate_of_the_shadow_table_is_the_shadow_rate(config: Path) -> None:
    settings = from_file(config, "[shadow]\nrate = 0.5\nqueue = 7")
    assert (settings.shadow_rate, settings.shadow.queue, settings.shadow.timeout_s) == (0.5, 7, 120)
    assert load_settings(config, {}, {"PROXY_SHADOW_RATE": "0.25"}).shadow_rate == 0.25


def test_two_names_for_the_shadow_rate_are_one_too_many(config: Path) -> None:
    text = refused(toml="shadow_rate = 0.1\n[shadow]\nrate = 0.5", config=config)
    assert text == f"{config} has shadow_rate and [shadow] rate: keep one of them"


def test_a_partial_table_keeps_the_other_defaults(config: Path) -> None:
    settings = from_file(
        config,
        """
        [split]
        identity = "header:X-User-Id"
        [compare]
        fields.spend.relative = 0.001
        [rollout]
        p95_ms = 80
        [shapes.analytics.fields]
        cost_per_click = "spend / clicks"
        """,
    )
    assert settings.split.identity == "header:X-User-Id"
    assert settings.split.allow_override is False
    assert settings.compare.relative == 0.01
    assert settings.compare.deciding[-1] == "profit"
    assert settings.compare.fields["spend"].relative == 0.001
    assert settings.compare.fields["spend"].floor is None
    assert settings.rollout is not None
    assert (settings.rollout.p95_ms, settings.rollout.steps) == (80, (1, 5, 25, 50, 100))
    assert settings.shapes.analytics.fields == {"cost_per_click": "spend / clicks"}
    assert settings.shapes.dashboard.fields == {}


def test_a_cached_route_is_kept_by_watermark_or_for_a_time(config: Path) -> None:
    routes = from_file(
        config,
        "[[cached_routes]]\npath = '/a'\nkey = ['x']\n[[cached_routes]]\npath = '/b'\nttl_s = 60",
    ).cached_routes
    assert [(r.path, r.methods, r.key, r.ttl_s) for r in routes] == [
        ("/a", ("GET",), ("x",), None),
        ("/b", ("GET",), (), 60),
    ]
    both = "[[cached_routes]]\npath = '/a'\nttl_s = 1\nfreshness = 'watermark'"
    assert refused(toml=both, config=config) == (
        f"cached_routes[0] in {config} has freshness and ttl_s: it may have one of them"
    )


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.split.salt = "x"  # type: ignore[misc]


def test_both_sides_on_one_port_are_refused() -> None:
    text = refused({"PROXY_ADMIN_PORT": "8080"})
    assert text == "PROXY_PORT and PROXY_ADMIN_PORT are both 8080: one must move"
    assert load_settings(None, {"port": 0, "admin_port": 0}, {}).port == 0


def test_forwarded_auth_needs_somebody_to_ask() -> None:
    assert "PROXY_AUTH_URL or PROXY_LEGACY_URL" in refused({"PROXY_AUTH": "forward"})
    environ = {"PROXY_AUTH": "forward", "PROXY_LEGACY_URL": "http://legacy"}
    assert load_settings(None, {}, environ).auth == "forward"


def test_a_file_that_cannot_be_read_is_named(config: Path) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"{config} cannot be read: No such file")):
        load_settings(config, {}, {})
    config.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is not UTF-8"):
        load_settings(config, {}, {})
    assert f"{config} is not TOML: " in refused(toml="port = ", config=config)


def row_of(line: Documented) -> str:
    name = f"`{line.name}`"
    return f"| {name} | {line.default.replace('|', '/')} | {line.what.replace('|', '&#124;')} |"


def test_the_page_has_every_setting_with_its_default_and_no_other() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows == [row_of(line) for line in documented()]


def test_the_page_has_a_heading_for_each_table() -> None:
    page = PAGE.read_text()
    for table in {line.table for line in documented()} - {""}:
        assert f"\n## `[{table}" in page.replace("[[", "["), table


def test_every_setting_says_what_it_is() -> None:
    for line in documented():
        assert not line.what.startswith("None"), line.name
        assert "something else" not in line.what, line.name


def test_variables_are_the_settings_that_are_no_tables() -> None:
    tables = {"split", "shadow", "compare", "rollout", "cached_routes", "shapes"}
    assert set(variables().values()) == set(Settings.model_fields) - tables
