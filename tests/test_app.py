import io
from pathlib import Path

import orjson
import pytest

from proxy.app import run_proxy
from proxy.errors import SettingsError
from proxy.logs import configure_logs
from proxy.settings import load_settings


async def test_a_login_that_would_not_be_asked_for_stops_the_start(tmp_path: Path) -> None:
    given = {"database": str(tmp_path / "none.db"), "auth": "forward", "auth_url": "http://x/y"}
    settings = load_settings(None, given, {})
    with pytest.raises(SettingsError, match="PROXY_AUTH"):
        async with run_proxy(settings):
            pass


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("workers = 2", "PROXY_WORKERS"),
        ("[shadow]\nrate = 0.5", "PROXY_SHADOW_RATE"),
        ("[rollout]", "[rollout]"),
        ("[split]\nallow_override = true", "[split] allow_override"),
    ],
)
async def test_a_setting_without_effect_is_named_in_the_log(
    tmp_path: Path, config: str, named: str
) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(config)
    given = {"database": str(tmp_path / "none.db"), "port": 0, "admin_port": 0}
    stream = io.StringIO()
    configure_logs("json", stream)
    async with run_proxy(load_settings(file, given, {})):
        pass
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["name"] for line in lines if line["event"] == "setting_without_effect"] == [named]
