"""What is shipped to run the proxy: valid by the schemas of those who read it, and hardened.

No container engine is needed. Programs of the machine are used beside the checks that always run.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from proxy.app_listening import _KEEPALIVE_S, SHUTDOWN_S
from proxy.settings import Settings, load_settings, variables

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KUBERNETES = DEPLOY / "kubernetes"
UNIT = DEPLOY / "systemd" / "dashboard-proxy.service"
NGINX = (DEPLOY / "nginx-proxies.conf").read_text()
SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"

# The public port, the admin port and the tasks behind them end one after the other, and each
# cancels in a second round what has not ended in the first.
LONGEST_STOP_S = 4 * SHUTDOWN_S
# A cache of the size that is configured, the program, and answers that are being made.
MEMORY_FACTOR = 4
OWN_IMAGE = "dashboard-proxy"
UID = 10001


def seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s?", text)
    assert found is not None, text
    return int(found[1])


def mebibytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)(m|Mi|g|Gi|G)", text)
    assert found is not None, text
    return int(found[1]) * (1024 if found[2][0] in "gG" else 1)


# Docker Compose


def test_compose_is_valid_by_the_schema_of_the_specification() -> None:
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(COMPOSE)


@pytest.mark.parametrize(
    ("profile", "services"),
    [
        (None, {"proxy", "redis"}),
        ("monitoring", {"prometheus", "grafana"}),
        ("warm", {"warm"}),
        ("demo", {"demo"}),
    ],
)
def test_compose_has_a_profile_for_each_purpose(profile: str | None, services: set[str]) -> None:
    wanted = [] if profile is None else [profile]
    assert {name for name, one in SERVICES.items() if one.get("profiles", []) == wanted} == services


def test_compose_starts_nothing_that_is_not_declared() -> None:
    for name, service in SERVICES.items():
        needed = service.get("depends_on", {})
        assert set(needed) <= set(SERVICES), name
        mounted = [str(volume).split(":")[0] for volume in service.get("volumes", [])]
        assert {v for v in mounted if re.fullmatch(r"\w+", v)} <= set(COMPOSE["volumes"]), name
        for path in (v for v in mounted if v.startswith("./")):
            assert (ROOT / path).is_dir(), path


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_no_rights_and_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["tmpfs"]


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_public_port_is_open_to_others(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == (
        ["8080:8080"] if name == "proxy" else []
    )


@pytest.mark.parametrize("name", [n for n, s in SERVICES.items() if s["restart"] != "no"])
def test_every_container_that_stays_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_compose_gives_the_proxy_time_to_answer_what_it_has_begun() -> None:
    assert seconds(SERVICES["proxy"]["stop_grace_period"]) > LONGEST_STOP_S


def test_every_limit_has_room_for_the_cache() -> None:
    settings = Settings()
    limits = SERVICES["proxy"]["deploy"]["resources"]["limits"]
    assert mebibytes(limits["memory"]) >= MEMORY_FACTOR * settings.memory_mb
    (line,) = unit()["Service"]["MemoryMax"]
    assert mebibytes(line) >= MEMORY_FACTOR * settings.memory_mb
    limit = container()["resources"]["limits"]["memory"]
    assert mebibytes(limit) >= MEMORY_FACTOR * load_settings(None, {}, pod_environ()).memory_mb


def test_redis_has_more_room_than_it_may_fill() -> None:
    command: list[str] = SERVICES["redis"]["command"]
    filled = mebibytes(command[command.index("--maxmemory") + 1].removesuffix("b"))
    assert mebibytes(SERVICES["redis"]["deploy"]["resources"]["limits"]["memory"]) > filled
    (pod,) = [c for _, c in containers() if c["name"] == "redis"]
    assert pod["args"] == command
    assert mebibytes(pod["resources"]["limits"]["memory"]) > filled


def test_grafana_lets_nobody_log_in() -> None:
    environ = SERVICES["grafana"]["environment"]
    assert environ["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environ["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environ["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environ["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_the_demo_shares_the_network_because_it_listens_on_loopback() -> None:
    assert SERVICES["demo"]["network_mode"] == "host"
    assert "ports" not in SERVICES["demo"]


# No secrets, in whatever file


def shipped() -> list[Path]:
    return [ROOT / "docker-compose.yml", *(p for p in sorted(DEPLOY.rglob("*")) if p.is_file())]


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://[^\s/\"']*:[^\s/\"']*@", text), "a password in a URL"
    given = re.findall(
        r"(?im)^\s*-?\s*\w*(?:token|password|secret)\"?\s*[:=]\s*(?!true|false)\S.*$", text
    )
    assert given == []


def test_a_secret_with_a_value_would_be_seen(tmp_path: Path) -> None:
    for line in ('  PROXY_ADMIN_TOKEN: "x"', "PROXY_ADMIN_TOKEN=x", "url: redis://:pw@redis:6379"):
        path = tmp_path / "file"
        path.write_text(line)
        with pytest.raises(AssertionError):
            test_no_file_holds_a_secret(path)


# Kubernetes


def manifests() -> list[dict[str, Any]]:
    listed = kustomization()["resources"]
    loaded = [one for name in listed for one in yaml.safe_load_all((KUBERNETES / name).read_text())]
    assert all(isinstance(one, dict) for one in loaded)
    return loaded


def kustomization() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    return loaded


def manifest(kind: str, name: str = "dashboard-proxy") -> dict[str, Any]:
    (found,) = [m for m in manifests() if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def pod_templates() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in manifests():
        spec = one["spec"].get("jobTemplate", one).get("spec") if "spec" in one else None
        if spec is not None and "template" in spec:
            yield one["metadata"]["name"], spec["template"]


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for _, template in pod_templates():
        for one in template["spec"]["containers"]:
            yield template["spec"], one


def container() -> dict[str, Any]:
    (found,) = [one for _, one in containers() if one["name"] == "proxy"]
    return found


def pod_environ() -> dict[str, str]:
    data: dict[str, str] = manifest("ConfigMap")["data"]
    return data


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
def test_every_manifest_is_valid_by_the_schemas_of_kubernetes(version: str) -> None:
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelled_manifest_would_be_seen() -> None:
    broken = manifest("Deployment")
    broken["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.33", strict=True)


def test_kustomize_applies_every_file_there_is() -> None:
    listed = kustomization()
    assert (listed["kind"], listed["namespace"]) == ("Kustomization", "dashboard")
    files = {path.name for path in KUBERNETES.iterdir()} - {"kustomization.yaml"}
    assert sorted(listed["resources"]) == sorted(files)


def test_every_kind_that_is_wanted_is_there() -> None:
    kinds = {one["kind"] for one in manifests()}
    assert kinds >= {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "ConfigMap",
        "NetworkPolicy",
        "CronJob",
    }
    assert "Secret" not in kinds


def test_every_pod_runs_without_rights_on_a_read_only_root() -> None:
    for pod, one in containers():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for bounds in ("requests", "limits"):
            assert set(one["resources"][bounds]) == {"cpu", "memory"}


def test_our_pods_are_the_user_of_the_image_and_see_no_variables_of_services() -> None:
    ours = [pod for pod, one in containers() if one["image"] == OWN_IMAGE]
    assert len(ours) == 2
    for pod in ours:
        assert pod["securityContext"]["runAsUser"] == UID
        # A service called "proxy" would set PROXY_PORT to tcp://…
        assert pod["enableServiceLinks"] is False
    assert f"USER {UID}" in (DEPLOY / "Dockerfile").read_text()


def test_the_image_is_named_once() -> None:
    (image,) = kustomization()["images"]
    assert image["name"] == OWN_IMAGE
    assert SERVICES["proxy"]["image"] == OWN_IMAGE


def test_a_new_pod_reads_the_tables_before_it_takes_part_and_losing_them_ends_no_pod() -> None:
    probes = {name: container()[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    asked = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert asked == {
        "startup": "/health/ready",
        "readiness": "/health/live",
        "liveness": "/health/live",
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"admin"}


def test_the_ports_are_those_of_the_settings() -> None:
    settings = load_settings(None, {}, pod_environ())
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"http": settings.port, "admin": settings.admin_port}
    assert (settings.host, settings.admin_host) == ("0.0.0.0", "0.0.0.0")
    annotations = manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.admin_port)


def test_what_the_settings_name_is_mounted() -> None:
    settings = load_settings(None, {}, pod_environ())
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    assert str(settings.database and settings.database.parent) in mounts
    assert str(settings.state.parent) in mounts
    volumes = {v["name"] for v in manifest("Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert set(mounts.values()) == volumes


def test_secrets_come_from_a_secret_that_wins() -> None:
    assert "PROXY_ADMIN_TOKEN" not in pod_environ()
    assert container()["envFrom"] == [
        {"configMapRef": {"name": "dashboard-proxy"}},
        {"secretRef": {"name": "dashboard-proxy"}},
    ]


def test_every_selector_finds_pods_and_only_one_kind_of_them() -> None:
    labels = {name: t["metadata"]["labels"] for name, t in pod_templates()}
    selectors = [
        (m["metadata"]["name"], selector.get("matchLabels", selector))
        for m in manifests()
        if m["kind"] in ("Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy")
        for selector in [m["spec"].get("selector") or m["spec"]["podSelector"]]
    ]
    assert len(selectors) == 8
    for owner, selector in selectors:
        found = [name for name, own in labels.items() if selector.items() <= own.items()]
        assert found == [owner.removesuffix("-admin")], owner


def test_scaling_and_disruptions_leave_somebody_to_answer() -> None:
    scaling = manifest("HorizontalPodAutoscaler")
    assert scaling["apiVersion"] == "autoscaling/v2"
    target = scaling["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "dashboard-proxy")
    deployment = manifest("Deployment")["spec"]
    assert "replicas" not in deployment
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert scaling["spec"]["minReplicas"] > manifest("PodDisruptionBudget")["spec"]["minAvailable"]


def test_a_pod_has_time_to_answer_what_it_has_begun() -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    pause = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > LONGEST_STOP_S + pause


def test_the_admin_port_is_for_prometheus_and_the_warm_up_only() -> None:
    admin = [
        rule
        for rule in manifest("NetworkPolicy")["spec"]["ingress"]
        if {"port": "admin"} in rule["ports"]
    ]
    (rule,) = admin
    assert rule["ports"] == [{"port": "admin"}]
    monitoring, warm = rule["from"]
    assert monitoring["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "monitoring"
    }
    labels = dict(pod_templates())["dashboard-proxy-warm"]["metadata"]["labels"]
    assert warm["podSelector"]["matchLabels"] == labels


def test_the_policy_lets_out_to_what_the_settings_name() -> None:
    settings = load_settings(None, {}, pod_environ())
    let_out = [
        port["port"]
        for rule in manifest("NetworkPolicy")["spec"]["egress"]
        for port in rule["ports"]
    ]
    for url in (settings.legacy_url, settings.redis_url):
        found = re.search(r":(\d+)(/|$)", str(url))
        assert found is not None
        assert int(found[1]) in let_out
    services = {m["metadata"]["name"] for m in manifests() if m["kind"] == "Service"}
    assert str(settings.redis_url).split("//")[1].split(":")[0] in services


def test_the_schedule_asks_the_admin_service() -> None:
    (warm,) = [one for _, one in containers() if one["name"] == "warm"]
    port = manifest("Service", "dashboard-proxy-admin")["spec"]["ports"][0]["port"]
    assert warm["args"][:3] == ["warm", "--url", f"http://dashboard-proxy-admin:{port}"]


# systemd


def unit() -> dict[str, dict[str, list[str]]]:
    """Section -> setting -> its values, in their order."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return sections


def test_the_unit_is_hardened() -> None:
    service = unit()["Service"]
    hardened = {
        "ProtectSystem": "strict",
        "ProtectHome": "true",
        "PrivateTmp": "true",
        "PrivateDevices": "true",
        "NoNewPrivileges": "true",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "true",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces": "true",
        "SystemCallArchitectures": "native",
    }
    assert {name: service[name] for name in hardened} == {n: [v] for n, v in hardened.items()}
    assert service["SystemCallFilter"][0] == "@system-service"
    assert service["User"] == service["Group"] == ["proxy"]


def test_the_unit_starts_again_after_a_failure_and_for_ever() -> None:
    parts = unit()
    assert parts["Service"]["Restart"] == ["on-failure"]
    assert parts["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert parts["Service"]["KillSignal"] == ["SIGTERM"]
    assert seconds(parts["Service"]["TimeoutStopSec"][0]) > LONGEST_STOP_S


def test_the_unit_keeps_its_state_where_it_may_write() -> None:
    service = unit()["Service"]
    environ = dict(line.split("=", 1) for line in service["Environment"])
    assert set(environ) <= set(variables())
    state = load_settings(None, {}, environ).state
    assert state.parent == Path("/var/lib") / service["StateDirectory"][0]
    assert service["WorkingDirectory"] == [str(state.parent)]
    assert service["EnvironmentFile"] == ["/etc/dashboard-proxy/env"]
    assert service["EnvironmentFile"][0] in (DEPLOY / "warm.cron").read_text()


def test_the_unit_runs_a_command_that_there_is() -> None:
    (start,) = unit()["Service"]["ExecStart"]
    assert start == "/opt/proxy/bin/dashboard-proxy serve"


def test_systemd_itself_accepts_the_unit_where_it_is_there(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    copy = tmp_path / UNIT.name
    # It looks for the program, which is not installed here.
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(
        [program, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# nginx


def directives(text: str) -> list[list[str]]:
    """Each directive of an nginx file as its words; a block's head counts as one."""
    bare = "\n".join(line.split("#")[0] for line in text.splitlines())
    return [found.split() for found in re.split(r"[;{}]", bare) if found.strip()]


def values(name: str) -> list[list[str]]:
    return [words[1:] for words in directives(NGINX) if words[0] == name]


def test_nginx_keeps_connections_open_and_closes_them_first() -> None:
    assert values("keepalive")[0][0].isdigit()
    assert seconds(values("keepalive_timeout")[0][0]) < _KEEPALIVE_S
    assert values("proxy_http_version") == [["1.1"]]
    assert ["Connection", "$dashboard_connection"] in values("proxy_set_header")
    assert ["''", "''"] in directives(NGINX)


def test_nginx_spreads_over_several_proxies() -> None:
    assert values("least_conn") == [[]]
    assert len(values("server")) >= 3, "two of the upstream, and the server itself"


def test_nginx_sends_no_post_twice() -> None:
    assert values("proxy_next_upstream") == [["error"]]


def test_nginx_waits_longer_than_the_proxy_for_the_legacy() -> None:
    assert seconds(values("proxy_read_timeout")[0][0]) > Settings().legacy_timeout_s


def test_nginx_carries_websockets() -> None:
    assert ["/socket.io/"] in values("location")
    assert ["Upgrade", "$http_upgrade"] in values("proxy_set_header")
    assert values("proxy_read_timeout")[1] == ["1h"]
    # A header of a location's own would hide all that the server sets.
    assert all(words[0] != "proxy_set_header" for words in directives(NGINX.split("location")[2]))


def test_nginx_overwrites_what_callers_claim_and_hides_the_admin_port() -> None:
    assert ["X-Forwarded-For", "$remote_addr"] in values("proxy_set_header")
    assert "8081" not in NGINX
    assert NGINX.count("{") == NGINX.count("}")
