"""Options that several commands have, spelled and explained once."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file. PROXY_… variables win over it."),
]
DatabaseFile = Annotated[
    Path | None,
    typer.Option(
        "--database",
        metavar="FILE",
        help="The pre-computed tables (SQLite), opened read-only. Else PROXY_DATABASE.",
    ),
]
MetaDatabaseFile = Annotated[
    Path | None,
    typer.Option(
        "--meta-database",
        metavar="FILE",
        help="The external Meta database, for narrow tables. Else PROXY_META_DATABASE.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
AdminUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The running proxy's admin port. Else PROXY_ADMIN_HOST and PROXY_ADMIN_PORT.",
    ),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit list.")
]
Author = Annotated[
    str | None, typer.Option("--author", metavar="NAME", help="Who, for the audit list.")
]
