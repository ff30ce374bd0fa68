import io
from pathlib import Path

import orjson

from proxy.app import run_proxy
from proxy.logs import configure_logs
from proxy.settings import load_settings


async def test_a_setting_without_effect_is_named_in_the_log(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text("workers = 2")
    given = {"database": str(tmp_path / "none.db"), "port": 0, "admin_port": 0}
    stream = io.StringIO()
    configure_logs("json", stream)
    async with run_proxy(load_settings(file, given, {})):
        pass
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["name"] for line in lines if line["event"] == "setting_without_effect"] == [
        "PROXY_WORKERS"
    ]
