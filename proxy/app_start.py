"""What stops a start: a database that is not what it has to be, a setting that would do nothing."""

import apsw
import structlog

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


def refuse_what_is_missing(settings: Settings) -> None:
    """What this version parses but does not act on must not look as if it did.

    A login that would not be asked for stops the start; the rest is said in the log.
    """
    if settings.auth == "forward":
        raise SettingsError(
            "PROXY_AUTH is 'forward', which this version does not have: it must be 'off'"
        )
    for name, is_asked in (
        ("PROXY_WORKERS", settings.workers > 1),
        ("PROXY_SHADOW_RATE", settings.shadow_rate > 0),
        ("[rollout]", settings.rollout is not None),
        ("[split] allow_override", settings.split.allow_override),
    ):
        if is_asked:
            log.warning("setting_without_effect", name=name, why="not in this version")
