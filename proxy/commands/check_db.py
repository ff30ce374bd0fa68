"""`dashboard-proxy check-db`: is this database fit to answer from, and how well?"""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from proxy.backends.database import Database
from proxy.backends.survey import Survey, opened, take_survey
from proxy.commands.exit_codes import CHECK_FAILED
from proxy.commands.options import AsJson, Config, DatabaseFile, MetaDatabaseFile
from proxy.commands.survey_report import failures_of, print_survey, survey_as_json
from proxy.errors import SettingsError
from proxy.settings import Settings, environment, load_settings
from proxy.shapes import make_shapes


def check_db(
    database: DatabaseFile = None,
    meta_database: MetaDatabaseFile = None,
    config: Config = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show SQLite's whole plan of each question.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look a database over before the proxy answers from it. Nothing is written to it.

    Says which variant it is, what it holds, which indexes are missing, which
    measures would be 0, and whether any question would have to walk all of
    history. Exit code 1 if one would, or if a required table or column is missing.
    """
    given = {"database": database, "meta_database": meta_database}
    settings = load_settings(config, given, environment())
    if settings.database is None:
        raise SettingsError("say which database: --database FILE, or PROXY_DATABASE")
    found, failures = _look_over(settings, settings.database)
    if as_json:
        typer.echo(orjson.dumps(survey_as_json(settings.database, found, failures)).decode())
    else:
        # A pipe has no width of its own: 80 columns would cut the tables' names.
        console = Console(width=None if sys.stdout.isatty() else 120)
        print_survey(console, settings.database, found, failures, is_verbose=verbose)
    if failures:
        raise typer.Exit(CHECK_FAILED)


def _look_over(settings: Settings, path: Path) -> tuple[Survey | None, list[str]]:
    """The survey, None where a required part is missing, and what is wrong."""
    database = Database(path, settings.meta_database)
    shapes = make_shapes(settings.extra_fields)
    with opened(database) as connection, Console(stderr=True).status("reading the database"):
        try:
            schema = database.read_schema(connection)
        except SettingsError as error:
            return None, [str(error)]
        found = take_survey(connection, schema, shapes, settings.rate_mode)
        return found, failures_of(found)
