"""Files that are shipped beside the code say only what the code knows."""

import os
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from proxy.settings import Settings, load_settings, variables

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
MAKEFILE = ROOT / "Makefile"


def shipped() -> list[Path]:
    pages = [*DEPLOY.rglob("*"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    code = [*(ROOT / "proxy").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    found = [*pages, *code, COMPOSE, MAKEFILE, ROOT / ".ci" / "run", ROOT / "constraints.txt"]
    return sorted(path for path in found if path.is_file())


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return parsed


def uncommented(text: str, setting: str) -> str:
    """`text` with its commented-out settings, which match `setting`, switched on."""
    return re.sub(rf"(?m)^# (?={setting})", "", text)


def environ_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_variable_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"PROXY_[A-Z0-9][A-Z0-9_]*", path.read_text()))
    assert named <= set(variables())


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_names_a_package_registry(path: Path) -> None:
    text = path.read_text().lower()
    assert not re.search(r"index-url|find-links|pypi\.|docker\.io|ghcr\.io|quay\.io", text)


def test_the_example_environment_changes_nothing_as_it_is() -> None:
    environ = environ_of((DEPLOY / "env.example").read_text())
    assert load_settings(None, {}, environ) == Settings()


def test_the_example_environment_has_every_variable_with_its_default() -> None:
    text = uncommented((DEPLOY / "env.example").read_text(), r"PROXY_\w+=")
    environ = environ_of(text)
    assert list(environ) == list(variables())
    assert load_settings(None, {}, environ) == Settings()


def test_the_example_configuration_loads_with_and_without_what_it_comments_out(
    tmp_path: Path,
) -> None:
    example = DEPLOY / "proxy.toml"
    assert load_settings(example, {}, {}).split.identity == "cookie:session"
    whole = tmp_path / "proxy.toml"
    whole.write_text(uncommented(example.read_text(), r"\[|[a-z0-9_.]+ = "))
    settings = load_settings(whole, {}, {})
    assert settings.rollout is not None
    assert [route.freshness for route in settings.cached_routes] == ["watermark"]
    assert settings.shapes.analytics.fields == {"cost_per_click": "spend / clicks"}


def test_the_example_configuration_has_every_table() -> None:
    text = uncommented((DEPLOY / "proxy.toml").read_text(), r"\[|[a-z0-9_.]+ = ")
    tables = set(Settings.model_fields) - set(variables().values())
    assert tables <= set(tomllib.loads(text))


def test_the_settings_of_compose_are_accepted() -> None:
    environ = dict(compose()["services"]["proxy"]["environment"])
    environ["PROXY_DATABASE"] = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", environ["PROXY_DATABASE"])
    settings = load_settings(None, {}, environ)
    assert str(settings.database) == "/data/mixpanel_data.db"
    assert settings.host == settings.admin_host == "0.0.0.0"


def test_compose_keeps_the_admin_port_on_this_machine() -> None:
    ports = compose()["services"]["proxy"]["ports"]
    assert [port for port in ports if port.endswith(":8081")] == ["127.0.0.1:8081:8081"]


def test_compose_mounts_the_directory_of_the_database_read_only() -> None:
    volumes = compose()["services"]["proxy"]["volumes"]
    assert "${DATABASE_DIR:-./data}:/data:${DATABASE_MOUNT:-ro}" in volumes


def test_compose_bounds_redis_and_evicts_the_least_used() -> None:
    redis = compose()["services"]["redis"]
    command = redis["command"]
    assert command[command.index("--maxmemory") + 1] == "512mb"
    assert command[command.index("--maxmemory-policy") + 1] == "allkeys-lru"
    assert redis["healthcheck"]["test"][-1] == "ping"


def test_compose_warms_up_only_when_asked_to() -> None:
    warm = compose()["services"]["warm"]
    assert (warm["profiles"], warm["restart"]) == (["warm"], "no")
    assert warm["command"][:3] == ["warm", "--url", "http://proxy:8081"]
    assert warm["image"] == compose()["services"]["proxy"]["image"]


def test_the_schedule_is_one_that_cron_reads() -> None:
    lines = (DEPLOY / "warm.cron").read_text().splitlines()
    (entry,) = [line for line in lines if re.match(r"[\d*]", line)]
    minute, hour, *days, user, command = entry.split(maxsplit=6)
    assert (minute.isdigit(), hour.isdigit(), days, user) == (True, True, ["*"] * 3, "proxy")
    assert "dashboard-proxy warm" in command
    assert "%" not in command


def test_every_named_volume_of_compose_is_declared() -> None:
    services = compose()["services"].values()
    mounted = [v.split(":")[0] for one in services for v in one.get("volumes", [])]
    named = {name for name in mounted if re.fullmatch(r"\w+", name)}
    assert named == set(compose()["volumes"])


def test_the_container_asks_the_admin_port_whether_it_is_alive() -> None:
    health = compose()["services"]["proxy"]["healthcheck"]["test"]
    for check in (" ".join(health), DOCKERFILE.split("HEALTHCHECK")[1]):
        assert "8081" in check
        assert "/health/live" in check


@pytest.mark.parametrize("source", ["compose", "dockerfile"])
def test_the_health_check_is_python_that_compiles(source: str) -> None:
    if source == "compose":
        code = compose()["services"]["proxy"]["healthcheck"]["test"][-1]
    else:
        found = re.search(r'CMD \["python", "-c", "(.*)"\]', DOCKERFILE)
        assert found is not None
        code = found[1]
    compile(code, source, "exec")


def test_the_final_image_has_no_compiler_and_runs_as_nobody_special() -> None:
    build, final = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
    assert "pip install" in build
    assert not re.search(r"apt-get|gcc|build-essential|pip install", final)
    users = re.findall(r"(?m)^USER (\S+)", final)
    assert users == ["10001"]
    assert 'ENTRYPOINT ["dashboard-proxy"]\nCMD ["serve"]' in final


def test_the_image_may_copy_what_it_copies() -> None:
    allowed = re.findall(r"(?m)^!(\S+)", (ROOT / ".dockerignore").read_text())
    for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", DOCKERFILE):
        for source in line.split():
            assert source.split("/")[0] in allowed, source


def test_every_dependency_is_pinned_to_a_version_it_accepts() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            (exact,) = pin.specifier
            assert exact.operator == "==", line
            pins[pin.name.lower().replace("_", "-")] = exact.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[wanted.name.lower()]), text


def test_every_file_that_is_not_python_is_part_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["proxy"]
    for path in (ROOT / "proxy").rglob("*"):
        name = path.relative_to(ROOT / "proxy").as_posix()
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            assert any(fnmatch(name, pattern) for pattern in patterns), name


def make(
    target: str, *words: str, venv: Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program is not None, "these tests need make"
    return subprocess.run(
        [program, "-s", target, f"VENV={venv}", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that make takes for ready, with a proxy that says how it was called."""
    venv = tmp_path / "venv"
    script(venv / "bin" / "dashboard-proxy", 'echo "$@"; env | grep ^PROXY_ | sort')
    for stamp in (".python", ".runtime", ".dev"):
        (venv / stamp).touch()
    return venv


def test_make_run_hands_over_what_it_was_given(venv: Path) -> None:
    done = make(
        "run", "DATABASE=/a b/x.db", "LEGACY_URL=http://l", "REDIS_URL=redis://r", venv=venv
    )
    assert done.stdout.splitlines() == [
        "serve",
        "PROXY_DATABASE=/a b/x.db",
        "PROXY_LEGACY_URL=http://l",
        "PROXY_REDIS_URL=redis://r",
    ]


def test_make_run_leaves_the_callers_own_variables_alone(venv: Path) -> None:
    environ = {"PROXY_DATABASE": "/x.db", "PROXY_LEGACY_URL": "http://l"}
    done = make("run", "CONFIG=a b.toml", venv=venv, environ=environ)
    assert done.stdout.splitlines() == [
        "serve --config a b.toml",
        "PROXY_DATABASE=/x.db",
        "PROXY_LEGACY_URL=http://l",
    ]


def test_make_run_without_a_database_says_how_to_name_one(venv: Path) -> None:
    done = make("run", venv=venv)
    assert done.returncode != 0
    assert "make run DATABASE=/data/mixpanel_data.db" in done.stderr
    assert done.stdout == ""


def test_make_demo_runs_the_demo(venv: Path) -> None:
    assert make("demo", venv=venv).stdout.splitlines() == ["demo"]


def test_make_alone_lists_its_targets(venv: Path) -> None:
    listed = [line.split()[0] for line in make("help", venv=venv).stdout.splitlines()[1:]]
    (phony,) = re.findall(r"(?m)^\.PHONY: (.*)$", MAKEFILE.read_text())
    assert listed == phony.split()


FITS = 'case "$*" in *version_info*) exit 0;; '


@pytest.mark.parametrize(
    ("pythons", "text"),
    [
        ({}, "No Python 3.11, 3.12 or 3.13 was found"),
        ({"python3": "exit 1"}, "No Python 3.11, 3.12 or 3.13 was found"),
        ({"python3": f"{FITS} esac; exit 1"}, "apt-get install python3-venv"),
    ],
)
def test_make_says_what_is_missing(tmp_path: Path, pythons: dict[str, str], text: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in pythons.items():
        script(programs / name, code)
    venv = tmp_path / "venv"
    done = make(f"{venv}/.python", venv=venv, environ={"PATH": str(programs)})
    assert done.returncode != 0
    assert text in done.stderr
    assert not venv.exists()


def test_make_takes_the_first_python_that_can_make_an_environment(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    makes = 'shift 2; echo "$0" >"$1.made"; mkdir -p "$1"'
    script(programs / "python3.12", "exit 1")
    script(programs / "python3.11", f"{FITS} esac; exit 1")
    script(programs / "python3.13", f"{FITS} *ensurepip*|*--version*) exit 0;; esac; {makes}")
    script(programs / "python3", "exit 1")
    for tool in ("mkdir", "touch"):
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)
    venv = tmp_path / "venv"
    done = make(f"{venv}/.python", venv=venv, environ={"PATH": str(programs)})
    assert done.returncode == 0, done.stderr
    assert Path((tmp_path / "venv.made").read_text().strip()).name == "python3.13"
    assert (venv / ".python").exists()


def test_the_browser_tests_say_where_a_browser_is_to_be_had(venv: Path, tmp_path: Path) -> None:
    done = make("test-browser", venv=venv, environ={"PATH": str(tmp_path / "nothing")})
    assert done.returncode == 2
    assert "apt-get install --no-install-recommends chromium" in done.stderr


def test_ci_runs_the_checks_and_the_tests() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    lines = run.read_text().splitlines()
    assert "set -euo pipefail" in lines
    made = [line.strip() for line in lines if line.strip().startswith("make ")]
    assert made == ["make check", "make test", "make test-browser"]
