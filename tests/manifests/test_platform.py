"""What the platform promises beyond schemas: names and versions that code, lock and images also have."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.overlays import ROOT, Overlay, build
from slipway.workloads.movies.messages import DEAD_LETTERS, KINDS

REPOSITORY = ROOT.parent


@lru_cache
def objects(folder: str) -> list[dict[str, Any]]:
    built = build(Overlay(folder, ROOT / folder))
    assert not built.findings
    return [one.document for one in built.objects]


def one(found: list[dict[str, Any]], kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    [match] = [
        d
        for d in found
        if (d["kind"], d["metadata"]["name"]) == (kind, name) and namespace in ("", d["metadata"].get("namespace"))
    ]
    return match


def pinned(package: str) -> str:
    lock = (REPOSITORY / "requirements.lock").read_text()
    match = re.search(rf"^{package}==(\S+)", lock, re.MULTILINE)
    assert match, package
    return match[1]


def test_topics_are_those_that_the_application_reads_and_writes() -> None:
    found = objects("streams")
    settings = one(found, "ConfigMap", "slipway-settings")["data"]
    topics = {d["metadata"]["name"]: d["spec"] for d in found if d["kind"] == "KafkaTopic"}
    assert set(topics) == {f"{settings['SLIPWAY_DATA_SET']}.{kind}" for kind in (*KINDS, DEAD_LETTERS)}
    brokers = one(found, "KafkaNodePool", "node")["spec"]["replicas"]
    assert {spec["replicas"] for spec in topics.values()} == {brokers}
    listener = one(found, "Kafka", "slipway")["spec"]["kafka"]["listeners"][0]
    assert settings["SLIPWAY_EVENTS_URL"].endswith(f"slipway-kafka-bootstrap.slipway-streams:{listener['port']}")
    assert not listener["tls"], "slipway/stream.py speaks plain Kafka"


def test_the_stream_has_one_consumer_which_nobody_doubles() -> None:
    deployment = one(objects("streams"), "Deployment", "slipway-stream")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}


def test_servers_are_of_the_versions_that_clients_are_of() -> None:
    found = objects("platform")
    assert one(found, "RayCluster", "slipway")["spec"]["rayVersion"] == pinned("ray")
    images = {
        container["image"]
        for d in found
        if d["metadata"]["name"] in {"mlflow", "mlflow-upgrade"} and "template" in d.get("spec", {})
        for container in d["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"ghcr.io/mlflow/mlflow:v{pinned('mlflow')}-full"}


# Application → the source of cluster/crds.yaml whose definitions its objects are held against.
RELEASED = {
    "cert-manager": "cert-manager",
    "external-secrets": "external-secrets",
    "gateway-api": "gateway-api",
    "keda": "keda",
    "kserve": "kserve",
    "kubeflow-pipelines": "kubeflow-pipelines",
    "kuberay": "kuberay",
    "prometheus": "prometheus-operator",
    "strimzi": "strimzi",
}
ROW = re.compile(r"^\| ([\w-]+)( \(standard\))? \| ([\w./-]+) \| ([\w.]+) \| ([\w.–]+) \| ", re.MULTILINE)


def versions() -> dict[tuple[str, str], tuple[str, str]]:
    """(Application, chart or path) → (version, what it brings), as the page says; with what standard has instead."""
    page = (ROOT / "infrastructure" / "README.md").read_text()
    return {(name + instead, what): (version, brings) for name, instead, what, version, brings in ROW.findall(page)}


@pytest.mark.parametrize("application", RELEASED)
def test_controllers_are_of_the_release_whose_definitions_are_checked(application: str) -> None:
    pins = yaml.safe_load((REPOSITORY / "cluster/crds.yaml").read_text())
    [brings] = {said for (name, _), (_, said) in versions().items() if name == application}
    assert brings.removeprefix("v") == pins["sources"][RELEASED[application]]["tag"].removeprefix("v")


def test_the_autoscaler_of_nodes_is_of_the_version_of_kubernetes() -> None:
    kubernetes = yaml.safe_load((REPOSITORY / "cluster/crds.yaml").read_text())["kubernetes"]
    assert versions()["cluster-autoscaler", "cluster-autoscaler"][1].startswith(f"{kubernetes}.")


def test_the_page_of_versions_has_every_chart_that_is_installed_and_no_other() -> None:
    found = {}
    for folder, mark in (("controllers", ""), ("configuration", ""), ("standard", " (standard)")):
        for application in (d for d in objects(f"infrastructure/{folder}") if d["kind"] == "Application"):
            for source in application["spec"].get("sources") or [application["spec"]["source"]]:
                what, version = source.get("chart") or source["path"], source["targetRevision"]
                if not mark or version != found.get((application["metadata"]["name"], what)):
                    found[application["metadata"]["name"] + mark, what] = version
    assert found == {one: version for one, (version, _) in versions().items()}


def test_every_repository_of_a_controller_is_allowed_and_every_version_pinned() -> None:
    found = objects("infrastructure/controllers") + objects("infrastructure/configuration")
    project = one(found, "AppProject", "slipway-infrastructure")["spec"]
    namespaces = {d["namespace"] for d in project["destinations"]}
    applications = [d for d in found if d["kind"] == "Application"]
    assert applications
    for application in applications:
        spec = application["spec"]
        assert spec["destination"]["namespace"] in namespaces, application["metadata"]["name"]
        for source in spec.get("sources") or [spec["source"]]:
            assert source["repoURL"] in project["sourceRepos"]
            assert re.fullmatch(r"v?\d+[\w.]*", source["targetRevision"]), source


def test_services_have_the_names_and_ports_by_which_settings_find_them() -> None:
    found = objects("platform")
    settings = one(found, "ConfigMap", "slipway-settings", "slipway-training")["data"]
    assert settings["SLIPWAY_TRACKING_URI"] == "http://mlflow.slipway-platform:5000"
    for name, port in (("postgres", 5432), ("redis", 6379), ("mlflow", 5000), ("feast", 6566)):
        service = one(found, "Service", name, "slipway-platform")
        assert port in {p["port"] for p in service["spec"]["ports"]}
    ray = one(found, "RayCluster", "slipway")["spec"]["gcsFaultToleranceOptions"]["redisAddress"]
    assert ray == "redis://ray-redis:6379"
    assert one(found, "Service", "ray-redis", "slipway-training")


class Server:
    """A PostgreSQL of this test's own, on a socket in its folder; as whom root may not run, nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = {"user": "nobody"} if os.geteuid() == 0 else {}
        self.password = "the administrator's"

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": os.environ["PATH"], "PGHOST": str(self.folder), "LC_ALL": "C"}
        return subprocess.run(
            command, check=False, env=base | variables, cwd=self.folder, capture_output=True, text=True, **self.user
        )

    def ask(self, role: str, password: str, database: str, query: str) -> subprocess.CompletedProcess[str]:
        command = ("psql", "--no-align", "--tuples-only", "--username", role, "--dbname", database, "--command", query)
        return self.run(*command, PGPASSWORD=password)


@pytest.fixture
def postgres() -> Iterator[Server]:
    if not all(shutil.which(program) for program in ("initdb", "pg_ctl", "psql")):
        pytest.skip("there is no PostgreSQL on this machine: sudo apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="slipway-pg-", ignore_cleanup_errors=True) as name:
        server = Server(Path(name))
        secret = server.folder / "secret"
        secret.write_text(server.password)
        if server.user:
            for path in (server.folder, secret):
                shutil.chown(path, "nobody")
        data, options = server.folder / "data", f"-c listen_addresses= -c fsync=off -k {server.folder}"
        # As the image makes it, but on the socket too a password is asked for.
        initdb = ("initdb", "--pgdata", data, "--username", "admin", "--pwfile", secret, "--auth", "scram-sha-256")
        made = server.run(*initdb, "--no-sync", "--encoding", "UTF8")
        assert made.returncode == 0, made.stderr
        started = server.run("pg_ctl", "start", "--wait", "--pgdata", data, "--options", options, "--log", "log")
        assert started.returncode == 0, started.stdout
        try:
            yield server
        finally:
            server.run("pg_ctl", "stop", "--pgdata", data, "--mode", "immediate")


def disk(postgres: Server, mlflow: str, feast: str) -> subprocess.CompletedProcess[str]:
    """The image's entry point sources the script, in a shell with these options, and goes on."""
    script = postgres.folder / "databases.sh"
    script.write_text(script_of_the_image())
    script.chmod(0o644)
    return postgres.run(
        *("bash", "-Eeo", "pipefail", "-c", 'source "$1"; echo "on: $UNSET"', "entry", script),
        POSTGRES_USER="admin",
        PGPASSWORD=postgres.password,
        MLFLOW_PASSWORD=mlflow,
        FEAST_PASSWORD=feast,
    )


def test_an_empty_disk_gets_its_roles_and_databases_whatever_their_passwords(postgres: Server) -> None:
    mlflow, feast = 'it\'s "quoted" $HOME; DROP ROLE admin', "0f1e2d3c"
    entry = disk(postgres, mlflow, feast)
    assert entry.returncode == 0, entry.stderr
    assert entry.stdout.endswith("on: \n")
    assert postgres.ask("mlflow", mlflow, "mlflow", "CREATE TABLE runs (id int); SELECT current_user").stdout.endswith(
        "mlflow\n"
    )
    assert postgres.ask("feast", feast, "feast", "SELECT 1").stdout == "1\n"
    assert "permission denied for database" in postgres.ask("feast", feast, "mlflow", "SELECT 1").stderr
    assert "password authentication failed" in postgres.ask("mlflow", feast, "mlflow", "SELECT 1").stderr
    superusers = "SELECT rolname FROM pg_roles WHERE rolsuper"
    assert postgres.ask("admin", postgres.password, "postgres", superusers).stdout == "admin\n"


@pytest.mark.slow
def test_mlflow_makes_its_schema_as_its_own_role_and_the_backup_can_be_read_again(postgres: Server) -> None:
    assert disk(postgres, "abc123", "def456").returncode == 0
    upgrade = one(objects("platform"), "Job", "mlflow-upgrade")["spec"]["template"]["spec"]["containers"][0]
    assert upgrade["command"][-1] == 'exec mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"'
    uri = f"postgresql+psycopg://mlflow:abc123@/mlflow?host={postgres.folder}"
    program = [str(Path(sys.executable).with_name("mlflow")), "db", "upgrade", uri]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    )
    assert done.returncode == 0, done.stderr
    count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert int(postgres.ask("mlflow", "abc123", "mlflow", count).stdout) > 50
    backup = one(objects("platform"), "CronJob", "postgres-backup")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    text = backup["initContainers"][0]["args"][0].replace("/backup", str(postgres.folder))
    told = postgres.run("bash", "-euo", "pipefail", "-c", text, PGUSER="admin", PGPASSWORD=postgres.password)
    assert told.returncode == 0, told.stderr
    assert [line.partition(":")[0] for line in told.stdout.splitlines()] == ["mlflow", "feast"]
    assert len(list(postgres.folder.glob("*.dump"))) == 2


def script_of_the_image() -> str:
    found = [d for d in objects("platform") if d["kind"] == "ConfigMap" and "databases.sh" in d["data"]]
    text: str = found[0]["data"]["databases.sh"]
    return text
