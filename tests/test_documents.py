"""What the documents promise is what the code has: fields, warnings, routes, texts, commands."""

import re
from pathlib import Path

import pytest
import typer.main

from proxy.canonical import Limits, canonicalize, parse_body
from proxy.cli import cli
from proxy.document import WARNINGS
from proxy.errors import RequestError
from proxy.handlers.dashboard import ROUTES
from proxy.shapes import make_shapes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ANSWERS = (ROOT / "docs" / "answers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    for link in links:
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:proxy|tests|docs|deploy|bench)/[\w/.-]*|[\w-]+\.yml)`",
        page.read_text(encoding="utf-8"),
    )
    # A name made up for the reader, and files that the reader makes.
    for name in {*named} - {"deploy/env"}:
        assert (ROOT / name).exists(), name


def test_every_field_of_both_shapes_is_explained() -> None:
    for shape in make_shapes().values():
        for field in shape.fields:
            assert f"`{field}`" in ANSWERS, field


def test_every_warning_is_explained_and_no_other() -> None:
    rows = re.search(r"\| warning \|.*?\n\n", ANSWERS, re.DOTALL)
    assert rows is not None
    assert sorted(re.findall(r"(?m)^\| `(\w+)`", rows[0])) == sorted(WARNINGS)


def test_every_route_is_listed() -> None:
    for path in ROUTES:
        assert f"| `{path.removeprefix('/api/dashboard')}` |" in ANSWERS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"end_date": "2024-01-01"}',
        b'{"start_date": "2024-02-30", "end_date": "2024-03-01"}',
        b'{"start_date": "2024-02-02", "end_date": "2024-02-01"}',
        b'{"start_date": "2020-01-01", "end_date": "2024-02-01"}',
        b'{"start_date": "2024-01-01", "end_date": "2024-02-01", "breakdown": "x"}',
        b'{"start_date": "2024-01-01", "end_date": "2024-02-01", "group_by": "x"}',
        b'{"start_date": "2024-01-01", "end_date": "2024-02-01", "depth": 4}',
        b'{"start_date": "2024-01-01", "end_date": "2024-02-01", "include_sparkline": 1}',
    ],
)
def test_every_error_text_stands_in_the_document_as_it_is_sent(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        canonicalize("analytics", parse_body(body), Limits())
    assert f"`{refused.value}`" in ANSWERS


def test_the_readme_lists_every_command() -> None:
    group = typer.main.get_command(cli)
    listed = re.findall(r"(?m)^\| `dashboard-proxy ([\w-]+)`", README)
    commands = getattr(group, "commands", {}).items()
    assert sorted(listed) == sorted(name for name, one in commands if not one.hidden)


def test_the_readme_names_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"(?m)^make ([a-z-]+)", README)) <= targets
