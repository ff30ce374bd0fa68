"""Schemathesis holds a whole proxy to its OpenAPI document, on both ports."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.deployment import deployed
from tests.proxies import ProxyProcess
from tests.public_port import END

Json = dict[str, Any]

TOKEN = "the-admin-token"
STREAM = "/admin/events"
"""Its answer never ends by itself, so a caller that waits for the end learns nothing."""
EXAMPLES = 20
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
BY_US_ALONE = ("negative_data_rejection", "positive_data_acceptance")
"""Where a legacy judges what we do not understand, it may take it or not."""
BY_OPERATORS = (*BY_US_ALONE, "unsupported_method", "allow_header_conformance", "ignored_auth")
"""On the public port any other method is the legacy's own affair."""
BETWEEN_FIELDS = re.compile("Must not be before start_date|The range must span at most")
"""Refusals that no schema of a single parameter can foresee."""
OF_ONE_SHAPE = re.compile("Unknown parameter (group_by|hierarchy|include_mixpanel|enable_break)")
"""Likewise: /admin/explain takes the words of either shape, not of both at once."""


# Ranges as callers ask for them: a thousand years take the demo's legacy minutes.
schemathesis.openapi.format("date", st.dates(date(2024, 1, 1), END).map(str))


@dataclass
class Found:
    """What came of a run: requests by operation, and what is wrong with which."""

    asked: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(document: Json, base_url: str, checks: Sequence[str]) -> Found:
    """All phases but the stateful one, which needs links between operations: there are none."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": base_url,
            "continue-on-failure": True,
            # Nothing of an earlier run may change this one.
            "cache": {"enabled": False},
            "request-timeout": 30,
            "suppress-health-check": ["all"],
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "generation": {
                "mode": "all",
                "max-examples": EXAMPLES,
                "deterministic": True,
                "database": "none",
                "no-shrink": True,
            },
            "phases": {
                "stateful": {"enabled": False},
                "coverage": {} if "unsupported_method" in checks else {"unexpected-methods": []},
            },
            "checks": {
                "enabled": False,
                **{name: {"enabled": True} for name in checks},
            },
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    found = Found()
    for event in from_schema(schema).execute():
        match event:
            case events.NonFatalError():
                found.wrong.append(f"{event.label}: {event.info.format()}")
            case events.ScenarioFinished():
                _note(found, event)
    return found


def _note(found: Found, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        response = interaction.response
        if response is None:
            continue
        found.asked[recorder.label] += 1
        found.statuses[response.status_code] += 1
        for check in recorder.checks.get(case_id, ()):
            if check.failure_info is None:
                continue
            answer = response.content.decode("utf-8", "replace")
            if check.name == "positive_data_acceptance" and _is_between(recorder.label, answer):
                continue
            request = interaction.request
            found.wrong.append(
                f"{check.name}: {request.method} {request.uri} {request.body!r:.300}"
                f" -> {response.status_code} {answer:.300}: {check.failure_info.failure.message}"
            )


def _is_between(label: str, answer: str) -> bool:
    is_explain = label == "GET /admin/explain"
    return bool(BETWEEN_FIELDS.search(answer) or (is_explain and OF_ONE_SHAPE.search(answer)))


async def documented(proxy: ProxyProcess) -> Json:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(proxy.admin_url / "admin/openapi.json") as response,
    ):
        document: Json = await response.json()
        return document


def on_port(document: Json, url: str, without: Sequence[str] = ()) -> Json:
    """The part of `document` that is served at `url`."""
    paths = {
        path: item
        for path, item in document["paths"].items()
        if item["servers"][0]["url"] == url and path not in without
    }
    return {**document, "paths": paths}


@pytest.fixture(params=["alone", "before a legacy"])
async def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    has_legacy = request.param != "alone"
    async with deployed(tmp_path, has_legacy=has_legacy, admin_token=TOKEN) as deployment:
        yield deployment


async def test_the_public_port_keeps_to_the_document(proxy: ProxyProcess) -> None:
    document = await documented(proxy)
    url = document["paths"]["/data"]["servers"][0]["url"]
    has_legacy = "502" in document["paths"]["/data"]["get"]["responses"]
    checks = CHECKS if has_legacy else (*CHECKS, *BY_US_ALONE)
    found = await asyncio.to_thread(run, on_port(document, url), url, checks)
    assert found.wrong == []
    assert len(found.asked) == 12
    assert min(found.asked.values()) > EXAMPLES
    assert found.statuses[200] > 200
    assert_well(proxy)


async def test_the_admin_port_keeps_to_the_document(proxy: ProxyProcess) -> None:
    document = await documented(proxy)
    url = document["paths"]["/admin/status"]["servers"][0]["url"]
    part = on_port(document, url, without=[STREAM])
    found = await asyncio.to_thread(run, part, url, (*CHECKS, *BY_OPERATORS))
    assert found.wrong == []
    operations = {
        f"{method.upper()} {path}"
        for path, item in part["paths"].items()
        for method in item
        if method != "servers"
    }
    assert found.asked.keys() == operations
    assert {200, 202, 400, 401, 404, 405, 409} <= found.statuses.keys()
    assert_well(proxy)


def assert_well(proxy: ProxyProcess) -> None:
    assert proxy.is_running
    assert [line for line in proxy.said if '"level": "error"' in line] == []
