"""The environments of the model servers: the base is what the renderer renders, and overlays hold differences alone."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from slipway import inferenceservice
from slipway.package import Manifest, Signature, Snapshot
from slipway.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the overlays; it is not here")

ROOT = Path(__file__).parents[2]
APPS = ROOT / "manifests" / "apps"
ENVIRONMENTS = ("staging", "canary", "production")
NOTHING = "0" * 12  # the version before any promotion
ABSENT = "–"

Document = dict[str, Any]


def build(folder: Path) -> dict[str, Document]:
    """By kind and name."""
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(built)}


@cache
def built(overlay: str) -> dict[str, Document]:
    return build(APPS / overlay)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A list is one leaf: patches replace the lists of custom resources whole."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    else:
        yield path, value


def at(document: Document, path: tuple[str, ...]) -> Any:
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def manifest() -> Manifest:
    return Manifest(
        workload="movies",
        version=NOTHING,
        created=datetime(2026, 11, 22, tzinfo=UTC),
        git_commit="unknown",
        pipeline_run="none",
        data=Snapshot(uri="s3://none", sha256="0" * 64, events=1),
        signature=Signature(inputs=(), outputs=()),
        metrics={},
        files={},
    )


# What only a cluster has, beside what the renderer writes.
OF_RUNTIME = {"volumes"}
OF_CONTAINER = {"envFrom", "livenessProbe", "volumeMounts"}
OF_PREDICTOR = {
    *("maxReplicas", "scaleMetric", "scaleTarget", "containerConcurrency", "timeout"),  # scaling
    *("labels", "serviceAccountName", "priorityClassName", "securityContext", "topologySpreadConstraints"),  # placement
}
STICKY = "slipway.dev/sticky-header"
# The package's own, which a rollout writes together with the package: a manifest would claim them of another one.
OF_PACKAGE = {f"slipway.dev/{name}" for name in ("pipeline-run", "git-commit", "data-uri", "data-sha256")}


def without(document: Document, names: set[str]) -> Document:
    return {key: value for key, value in document.items() if key not in names}


def test_the_base_is_what_the_renderer_renders_and_named_additions() -> None:
    runtime, service = inferenceservice.render(
        manifest(),
        name="movies",
        namespace="anywhere",
        storage_uri=f"s3://slipway-packages/slipway/packages/movies/{NOTHING}",
        image="slipway-serving:0.1.0",
    )
    for document in (runtime, service):
        del document["metadata"]["namespace"]
    rendered = service["metadata"]["annotations"]
    assert set(rendered) >= OF_PACKAGE
    service["metadata"]["annotations"] = without(rendered, OF_PACKAGE)
    found = deepcopy(built("base"))

    mine = found[f"ServingRuntime/{inferenceservice.RUNTIME}"]
    container = mine["spec"]["containers"][0]
    assert set(mine["spec"]) >= OF_RUNTIME
    assert set(container) >= OF_CONTAINER
    mine["spec"] = without(mine["spec"], OF_RUNTIME) | {"containers": [without(container, OF_CONTAINER)]}
    assert mine == runtime

    mine = found["InferenceService/movies"]
    predictor = mine["spec"]["predictor"]
    assert set(predictor) >= OF_PREDICTOR
    mine["spec"]["predictor"] = without(predictor, OF_PREDICTOR)
    mine["metadata"]["annotations"].pop(STICKY)
    assert mine == service


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_overlay_holds_only_differences(environment: str) -> None:
    folder = APPS / environment
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unpatched = ("patches", "transformers", "images", "components")
    without_patches = {key: value for key, value in content.items() if key not in unpatched}
    without_patches["components"] = [one for one in content.get("components", []) if one != "../../site"]
    files = {patch["path"] for patch in content["patches"]}
    assert files == {path.name for path in folder.iterdir()} - {"kustomization.yaml"}, "every file is in use"
    assert content["resources"] == ["../base"]
    bare = build_with(environment, without_patches)
    for name in files - {"package.yaml"}:
        for patch in yaml.safe_load_all((folder / name).read_text()):
            before = bare[f"{patch['kind']}/{patch['metadata']['name']}"]
            for path, value in leaves(without(patch, {"apiVersion", "kind", "metadata"})):
                assert at(before, path) != value, f"{environment}/{name}: {'.'.join(path)} is the base's already"


def copied(folder: Path) -> Path:
    """The environments in a copy, and beside them what they take in."""
    for part in ("apps", "site"):
        shutil.copytree(APPS.parent / part, folder / part)
    return folder / "apps"


def build_with(environment: str, content: Document) -> dict[str, Document]:
    """Another kustomization.yaml in the environment's place, in a copy beside the others."""
    with tempfile.TemporaryDirectory() as scratch:
        apps = copied(Path(scratch))
        (apps / environment / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return build(apps / environment)


def test_environments_differ_exactly_as_the_readme_says() -> None:
    rows = re.findall(r"^\| (\w+/[\w-]+) \| ([\w.-]*) ?\| (.+?) \| (.+?) \| (.+?) \|$", readme(), re.MULTILINE)
    said = {(thing, path): dict(zip(ENVIRONMENTS, cells, strict=True)) for thing, path, *cells in rows}
    assert len(said) == len(rows) > 8
    alike = {environment: neutral(environment) for environment in ENVIRONMENTS}
    for (thing, path), cells in said.items():
        for environment, cell in cells.items():
            found = alike[environment].get(thing)
            value = ABSENT if found is None else shown(found, path)
            assert value == cell, f"{thing} {path} of {environment}"
    names = set().union(*alike.values())
    differing = set()
    for thing in names:
        every = [alike[environment].get(thing) for environment in ENVIRONMENTS]
        if all(every):
            flat = [dict(leaves(one)) for one in every]
            paths = {path for one in flat for path in one if len({repr(other.get(path)) for other in flat}) > 1}
            differing |= {(thing, ".".join(path)) for path in paths}
        else:
            differing.add((thing, "data.policy.yaml" if thing.startswith("ConfigMap") else ""))
    assert differing == set(said)


def readme() -> str:
    return (APPS / "README.md").read_text()


def neutral(environment: str) -> dict[str, Document]:
    """Without what tells whose it is: the environment's name, and the package."""
    found: dict[str, Document] = {}
    for name, document in built(environment).items():
        version = at(built(environment)["InferenceService/movies"], ("metadata", "labels", VERSION_LABEL))
        text = re.sub(rf"(:role/\S+)-{environment}\b", r"\1-env", yaml.safe_dump(document)).replace(version, NOTHING)
        text = re.sub(rf"(?<!role/)slipway-{environment}\b", "slipway-env", text)
        one = yaml.safe_load(text.replace(f"environment: {environment}\n", "environment: env\n"))
        found[re.sub(r"^Job/.*", "Job/rollout", name).replace(f"slipway-{environment}", "slipway-env")] = one
    return found


VERSION_LABEL = "slipway.dev/package-version"


def shown(document: Document, path: str) -> str:
    if not path:
        return "yes"
    kind, _, rest = path.partition(".")
    keys = (kind, rest) if kind == "data" else hard(path)
    value = at(document, keys)
    if path.endswith("topologySpreadConstraints"):
        return ", ".join(one["topologyKey"].rpartition("/")[2] for one in value)
    if path.endswith("policy.yaml"):
        return str(yaml.safe_load(value)["name"])
    return str(value)


def hard(path: str) -> tuple[str, ...]:
    """A quota's names have dots of their own."""
    if path.startswith("spec.hard."):
        return ("spec", "hard", path.removeprefix("spec.hard."))
    return tuple(path.split("."))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_package_yaml_is_one_operation_and_nothing_else(environment: str) -> None:
    [operation] = yaml.safe_load((APPS / environment / "package.yaml").read_text())
    assert (operation["op"], operation["path"]) == ("replace", "/spec/predictor/model/storageUri")
    assert set(operation) == {"op", "path", "value"}
    inferenceservice.check_storage_uri(operation["value"])
    store = built(environment)["ConfigMap/slipway-settings"]["data"]["SLIPWAY_STORE_URI"]
    assert re.fullmatch(rf"{store}/packages/movies/[0-9a-f]{{12}}", operation["value"])


def test_another_package_is_another_label_and_another_job(tmp_path: Path) -> None:
    apps = copied(tmp_path)
    package = apps / "production" / "package.yaml"
    package.write_text(package.read_text().replace(f"movies/{NOTHING}", "movies/0123456789ab"))
    found = build(apps / "production")
    service = found["InferenceService/movies"]
    uri = service["spec"]["predictor"]["model"]["storageUri"]
    assert uri.endswith("/movies/0123456789ab")
    assert service["metadata"]["labels"][VERSION_LABEL] == "0123456789ab"
    job = found["Job/rollout-0123456789ab"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "PACKAGE", "value": uri}]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_settings_are_those_that_the_code_reads(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = built(environment)["ConfigMap/slipway-settings"]["data"]
    ours = {name: value for name, value in data.items() if name.startswith("SLIPWAY_")}
    assert {name.removeprefix("SLIPWAY_").lower() for name in ours} <= set(Settings.model_fields)
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    read = Settings()  # type: ignore[call-arg]
    assert read.namespace == f"slipway-{environment}"
    assert read.captures is (environment != "staging")
    container = built(environment)["ServingRuntime/slipway-server"]["spec"]
    disks = {one["name"]: one["emptyDir"]["sizeLimit"] for one in container["volumes"]}
    mounts = {one["mountPath"]: one["name"] for one in container["containers"][0]["volumeMounts"]}
    assert disks[mounts[str(read.spool)]] == "512Mi"
    assert read.capture_spool_bytes < 512 << 20, "what was promised to be kept must fit onto its disk"


@pytest.mark.parametrize("environment", ["canary", "production"])
def test_a_rollout_is_a_command_and_a_policy_that_are_understood(environment: str, tmp_path: Path) -> None:
    from cli import rollout
    from slipway.rollout import policy

    (tmp_path / "policy.yaml").write_text(built(environment)["ConfigMap/rollout-policy"]["data"]["policy.yaml"])
    rules = policy.read(str(tmp_path / "policy.yaml"))
    assert not any(stage.shadow for stage in rules.stages), "nobody mirrors requests on Knative"
    job = built(environment)[f"Job/rollout-{version(environment)}"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    program, group, command, *words = [*container["command"], *container["args"]]
    assert (program, group) == ("slipway", "rollout")
    parsed = get_command(rollout.app).commands[command].make_context(command, words)  # type: ignore[attr-defined]
    assert parsed.params["here"] is True
    assert parsed.params["name"] == "movies"
    assert parsed.params["policy_"].startswith(container["volumeMounts"][1]["mountPath"])
    fatal = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert fatal["values"] == [rollout.ROLLED_BACK]
    assert fatal["containerName"] == container["name"]


def version(environment: str) -> str:
    return str(built(environment)["InferenceService/movies"]["metadata"]["labels"][VERSION_LABEL])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_embedded_kserve_takes_the_very_same_documents(environment: str) -> None:
    from serving.embedded import schema
    from serving.embedded.template import template

    service = built(environment)["InferenceService/movies"]
    runtime = built(environment)["ServingRuntime/slipway-server"]
    assert schema.problems(schema.InferenceService, service) == []
    assert schema.problems(schema.ServingRuntime, runtime) == []
    made = template(service, runtime)
    assert made.storage_uri == service["spec"]["predictor"]["model"]["storageUri"]
    assert made.replicas == service["spec"]["predictor"]["minReplicas"]
    assert made.env == {"OMP_NUM_THREADS": "1"}, "a cluster's addresses do not reach the laptop's servers"


def test_standard_mode_has_its_own_canary_and_none_of_knatives_fields() -> None:
    found, production = built("standard"), built("production")
    service = found["InferenceService/movies"]
    predictor, [canary] = service["spec"]["predictor"], service["spec"]["canary"]
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert not {"canaryTrafficPercent", "containerConcurrency", "scaleMetric", "scaleTarget"} & set(predictor)
    candidate = canary["predictor"]
    assert 0 < candidate["minReplicas"] <= predictor["minReplicas"]
    assert not {"maxReplicas", "scaleMetric", "scaleTarget", "autoScaling"} & set(candidate)
    for field in ("labels", "serviceAccountName", "priorityClassName", "securityContext", "timeout"):
        assert candidate[field] == predictor[field], "the candidate's pods are as the stable ones"
    assert without(candidate["model"], {"name", "storageUri"}) == without(predictor["model"], {"storageUri"})
    gone = set(production) - set(found)
    assert {re.sub("-[0-9a-f]{12}", "", name) for name in gone} == {
        *("Job/rollout", "ConfigMap/rollout-policy", "NetworkPolicy/slipway-rollout")
    }
    assert not set(found) - set(production)


def test_traffic_is_moved_by_one_role_that_creates_and_deletes_nothing() -> None:
    for environment in ENVIRONMENTS:
        found = built(environment)
        [rule] = found["Role/slipway-rollout"]["rules"]
        assert rule["resources"] == ["inferenceservices"]
        assert set(rule["verbs"]) == {"get", "list", "watch", "patch"}
        looking = found["Role/slipway-viewer"]["rules"]
        assert {verb for one in looking for verb in one["verbs"]} == {"get", "list", "watch"}
        assert "secrets" not in {resource for one in looking for resource in one["resources"]}
        bound = [one for name, one in found.items() if name.startswith("RoleBinding/")]
        assert bound
        for binding in bound:
            for subject in binding["subjects"]:
                assert subject["kind"] == "Group" or subject["namespace"] == f"slipway-{environment}"
        assert found["ServiceAccount/slipway-serving"]["automountServiceAccountToken"] is False
