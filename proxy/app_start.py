"""What stops a start: a database that is not what it has to be, an admin port open to all."""

import os
from ipaddress import ip_address
from pathlib import Path

import apsw
import structlog
from pydantic import SecretStr

from proxy.backends.database import Database
from proxy.errors import SettingsError
from proxy.settings import Settings

log = structlog.get_logger(__name__)


def check_database(database: Database) -> None:
    """A file that is there must hold what we need; one that is not there yet is waited for."""
    if not database.path.exists():
        log.warning("database_not_there", path=str(database.path))
        return
    try:
        connection = database.open()
        try:
            database.read_schema(connection)
        finally:
            connection.close()
    except SettingsError as error:
        raise SettingsError(f"{database.path}: {error}") from error
    except apsw.BusyError:
        log.warning("database_locked", path=str(database.path))
    except apsw.Error as error:
        raise SettingsError(f"{database.path}: {error}") from error


def check_state(path: Path) -> None:
    """Where the state cannot be kept the proxy runs all the same; changes will be refused."""
    folder = path.absolute().parent
    if not os.access(path if path.exists() else folder, os.W_OK):
        log.warning("state_not_writable", name="PROXY_STATE", path=str(path))


def secret_of(token: SecretStr | None) -> str | None:
    return None if token is None else token.get_secret_value()


def refuse_open_admin(settings: Settings) -> None:
    """What may stop, purge and read everything must not listen to strangers without a secret."""
    if settings.admin_token is None and not is_loopback(settings.admin_host):
        raise SettingsError(
            f"PROXY_ADMIN_HOST is {settings.admin_host!r}, which others can reach: "
            "it needs PROXY_ADMIN_TOKEN, or must be a loopback address like 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Of names only localhost is known to be."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def warn_of_what_is_missing(settings: Settings) -> None:
    """What this version parses but does not act on must not look as if it did."""
    if settings.workers > 1:
        log.warning("setting_without_effect", name="PROXY_WORKERS", why="not in this version")
