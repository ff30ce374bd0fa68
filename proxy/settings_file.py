"""Reads the configuration file. What its values may be is decided elsewhere."""

import tomllib
from pathlib import Path
from typing import Any

from proxy.errors import SettingsError


def read_text(config: Path) -> str:
    """What stands in `config`. Raises SettingsError when it cannot be read."""
    try:
        return config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"The configuration file {config} cannot be read: {reason}") from error


def parse_file(text: str, config: Path) -> dict[str, Any]:
    """The settings that `text` of `config` gives, `[shadow] rate` under its other name
    `shadow_rate`.

    Raises SettingsError when it is no TOML, or gives both names.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The configuration file {config} is not TOML: {error}") from error
    shadow = found.get("shadow")
    if isinstance(shadow, dict) and "rate" in shadow:
        if "shadow_rate" in found:
            raise SettingsError(f"{config} has shadow_rate and [shadow] rate: keep one of them")
        found["shadow_rate"] = shadow.pop("rate")
    return found
