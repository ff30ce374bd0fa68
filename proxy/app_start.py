"""What stops a start: a database that is not what it has to be, an admin port open to all."""

import os
from ipaddress import ip_address

import apsw
import structlog
from pydantic import SecretStr

from proxy.backends.database import Database
from proxy.errors import SettingsError, StoreError
from proxy.rollout.shared_state import NewerStateError, SharedState
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


def check_state(settings: Settings) -> None:
    """Where the state cannot be kept the proxy runs all the same; changes will be refused.

    Nor does one that cannot be read stop it: see Steering.start.

    Into a database of the pipeline nothing is ever written: SettingsError.
    """
    path = settings.state
    databases = {
        "PROXY_DATABASE": settings.database,
        "PROXY_META_DATABASE": settings.meta_database,
    }
    for name, other in databases.items():
        # Not Path.exists, which raises where a folder may not be entered.
        if other is None or not (os.path.exists(other) and os.path.exists(path)):
            continue
        if path.samefile(other):
            raise SettingsError(
                f"PROXY_STATE is {str(path)!r}, the file of {name}: it must be a file of its own"
            )
    folder = path.absolute().parent
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        log.warning("state_not_writable", name="PROXY_STATE", path=str(path))


async def refuse_newer_state(shared: SharedState | None) -> None:
    """Who cannot read what the others agreed on would not follow their rollbacks either."""
    if shared is None:
        return
    try:
        await shared.read()
    except NewerStateError as error:
        raise SettingsError(f"PROXY_REDIS_URL: {error}") from error
    except StoreError as error:
        # Steering says so too, and follows it when it is back.
        log.debug("state_not_shared", where="redis", error=str(error))


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
