"""What KServe's webhooks and controllers know of an InferenceService, and its schema does not.

Sources: pkg/apis/serving/v1beta1/inference_service_validation.go (v0.20) and docs/rollout.md.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, at, listed
from slipway.errors import ManifestError
from slipway.inferenceservice import ANNOTATION, check_storage_uri

MODE = "serving.kserve.io/deploymentMode"
MODES = {"Knative": "Knative", "Serverless": "Knative", "Standard": "Standard", "RawDeployment": "Standard"}
CONFIG = "inferenceservice-config"
AUTOSCALING = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")
COMPONENTS = ("predictor", "transformer", "explainer")
# Ours, and the grammar of what they hold. A rollout's state is written by the rollout alone.
VALUES = {
    "sticky-header": r"[A-Za-z][A-Za-z0-9-]*",
    "mirror-percent": r"\d{1,2}|100",
    "pipeline-run": r"[\w.-]+",
    "git-commit": r"[0-9a-f]{7,40}|unknown",
    "data-uri": r"\S+",
    "data-sha256": r"[0-9a-f]{64}",
}
WRITTEN = ("rollout", "rollout-word", "staging-run", "staging-until")


def _mode(estate: Estate, thing: Object) -> str:
    """Knative, Standard, or what was written, when it is neither."""
    written = thing.annotations.get(MODE)
    if written is None:
        written = "Knative"
        for config in estate.all("ConfigMap"):
            if config.name == CONFIG:
                deploy = _json(at(config.document, "data.deploy"))
                written = deploy.get("defaultDeploymentMode", written) if isinstance(deploy, dict) else written
    return MODES.get(str(written), str(written))


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


@lint("isvc-mode", "An InferenceService's deployment mode is Knative or Standard.", "write Knative or Standard")
def modes(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        if _mode(estate, thing) not in MODES.values():
            yield Broken(thing, "metadata.annotations", f"{MODE} is {_mode(estate, thing)!r}")


@lint(
    "canary-mode",
    "A canary is canaryTrafficPercent in Knative mode and spec.canary in Standard mode: the other is ignored.",
    "use the field of this mode, or change the annotation serving.kserve.io/deploymentMode",
)
def canary_mode(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        mode = _mode(estate, thing)
        for part in COMPONENTS:
            if mode == "Standard" and at(thing.spec, f"{part}.canaryTrafficPercent") is not None:
                yield Broken(thing, f"spec.{part}.canaryTrafficPercent", "KServe ignores it in Standard mode")
        if mode == "Knative" and thing.spec.get("canary") is not None:
            yield Broken(thing, "spec.canary", "KServe refuses it in Knative mode")


@lint(
    "canary-percent", "A share of the traffic is 0 to 100, and all canaries' together at most 100.", "lower the share"
)
def canary_percent(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        for part in COMPONENTS:
            share = at(thing.spec, f"{part}.canaryTrafficPercent")
            if isinstance(share, int) and not 0 <= share <= 100:
                yield Broken(thing, f"spec.{part}.canaryTrafficPercent", f"{share} is not in 0..100")
        shares = [c.get("trafficPercent", 0) for c in listed(thing.spec, "canary") if isinstance(c, dict)]
        for index, share in enumerate(shares):
            if not isinstance(share, int) or not 0 <= share <= 100:
                yield Broken(thing, f"spec.canary[{index}].trafficPercent", f"{share} is not in 0..100")
        total = sum(share for share in shares if isinstance(share, int))
        if total > 100:
            yield Broken(thing, "spec.canary", f"the canaries' shares are {total} together")


@lint(
    "canary-name",
    "Each canary's predictor has a name of its own, other than the stable one's.",
    "name it: spec.canary[].predictor.name",
)
def canary_name(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        taken = {at(thing.spec, "predictor.name")} - {None, ""}
        for index, canary in enumerate(listed(thing.spec, "canary")):
            name = at(canary, "predictor.name") or ""
            path = f"spec.canary[{index}].predictor.name"
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
                yield Broken(thing, path, f"{name!r} is no name" if name else "no name")
            elif name in taken:
                yield Broken(thing, path, f"{name!r} is taken")
            taken.add(name)


@lint(
    "canary-scaling",
    "A canary in Standard mode has a fixed number of replicas, at most the stable predictor's.",
    "leave only minReplicas, at most spec.predictor.minReplicas",
)
def canary_scaling(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        stable = at(thing.spec, "predictor.minReplicas", 1)
        for index, canary in enumerate(listed(thing.spec, "canary")):
            base = f"spec.canary[{index}].predictor"
            for key in AUTOSCALING:
                if at(canary, f"predictor.{key}") is not None:
                    yield Broken(thing, f"{base}.{key}", f"{key} is not allowed in a canary")
            least = at(canary, "predictor.minReplicas")
            if isinstance(least, int) and isinstance(stable, int) and least > stable:
                yield Broken(thing, f"{base}.minReplicas", f"{least} is more than the stable predictor's {stable}")


@lint(
    "isvc-runtime",
    "A model names a runtime that is there and supports its format and protocol.",
    "name a ServingRuntime of the namespace; KServe would choose another one by itself (an ONNX model: Triton)",
)
def runtimes(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        models = [("spec.predictor.model", at(thing.spec, "predictor.model"))]
        models += [
            (f"spec.canary[{i}].predictor.model", at(c, "predictor.model"))
            for i, c in enumerate(listed(thing.spec, "canary"))
        ]
        for path, model in models:
            if not isinstance(model, dict):
                continue
            name = model.get("runtime")
            if not name:
                yield Broken(thing, f"{path}.runtime", "no runtime is named")
                continue
            runtime = estate.get("ServingRuntime", thing.namespace, name) or estate.get(
                "ClusterServingRuntime", "", name
            )
            if runtime is None:
                there = ", ".join(estate.names("ServingRuntime", thing.namespace)) or "none"
                yield Broken(thing, f"{path}.runtime", f"there is no ServingRuntime {name}; there are: {there}")
                continue
            wanted = at(model, "modelFormat.name")
            formats = [entry.get("name") for entry in listed(runtime.spec, "supportedModelFormats")]
            if wanted not in formats:
                yield Broken(thing, f"{path}.modelFormat.name", f"{name} serves {', '.join(map(str, formats))}")
            protocol, known = model.get("protocolVersion"), listed(runtime.spec, "protocolVersions")
            if protocol and known and protocol not in known:
                yield Broken(thing, f"{path}.protocolVersion", f"{name} speaks {', '.join(known)}")


@lint(
    "storage-uri",
    "A storageUri names one package's folder: file:///… or s3://bucket/….",
    "name the package's folder itself; KServe has no scheme for a model registry",
)
def storage(estate: Estate) -> Iterator[Broken]:
    for thing, path, uri in _packages(estate):
        try:
            check_storage_uri(uri)
        except ManifestError as error:
            yield Broken(thing, path, error.message, error.remedy)
        if uri.startswith("file:"):
            yield Broken(thing, path, f"{uri} is a laptop's", "name the package in the object store: s3://…")


@lint(
    "package-store",
    "A package lies in the store of its environment, which alone its servers may read.",
    "promote a package that was registered from this store, or correct packages in manifests/site/site.yaml",
)
def package_stores(estate: Estate) -> Iterator[Broken]:
    for thing, path, uri in _packages(estate):
        settings = estate.get("ConfigMap", thing.namespace, "slipway-settings")
        store = str(at(settings.document, "data.SLIPWAY_STORE_URI", "")) if settings else ""
        nothing = uri.endswith("/" + "0" * 12)  # nothing was promoted there yet
        if store and not nothing and not uri.startswith(f"{store.rstrip('/')}/"):
            yield Broken(thing, path, f"{uri} is not below {store}: the server's role may not read it")


def _packages(estate: Estate) -> Iterator[tuple[Object, str, str]]:
    """(InferenceService, path, storageUri) of each model in it."""
    for thing in estate.of("InferenceService"):
        uris = [("spec.predictor.model.storageUri", at(thing.spec, "predictor.model.storageUri"))]
        uris += [
            (f"spec.canary[{i}].predictor.model.storageUri", at(c, "predictor.model.storageUri"))
            for i, c in enumerate(listed(thing.spec, "canary"))
        ]
        yield from ((thing, path, uri) for path, uri in uris if isinstance(uri, str))


@lint(
    "slipway-annotation",
    "Annotations of slipway.dev/ are known, hold what they should, and none is a rollout's own state.",
    "correct it; docs/rollout.md lists them",
)
def annotations(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        for key, value in thing.annotations.items():
            if not key.startswith(f"{ANNOTATION}/"):
                continue
            name = key.removeprefix(f"{ANNOTATION}/")
            if name in WRITTEN:
                yield Broken(thing, "metadata.annotations", f"{key} is written by a rollout", "remove it from Git")
            elif name not in VALUES:
                yield Broken(thing, "metadata.annotations", f"{key} is unknown; there is: {', '.join(VALUES)}")
            elif not re.fullmatch(VALUES[name], str(value)):
                yield Broken(thing, "metadata.annotations", f"{key} cannot be {value!r}")


@lint(
    "kserve-disallowed",
    "KServe hands none of our annotations to revisions: each is in serviceAnnotationDisallowedList.",
    "list them in inferenceservice-config, data.inferenceService; KServe compares whole names, not patterns",
)
def disallowed(estate: Estate) -> Iterator[Broken]:
    for config in estate.of("ConfigMap"):
        if config.name != CONFIG:
            continue
        parsed = _json(at(config.document, "data.inferenceService"))
        found = parsed.get("serviceAnnotationDisallowedList", []) if isinstance(parsed, dict) else []
        needed = [f"{ANNOTATION}/{name}" for name in (*WRITTEN, "sticky-header", "mirror-percent")]
        missing = [name for name in needed if name not in found]
        if missing:
            message = f"a change of {', '.join(missing)} would make a new revision"
            yield Broken(config, "data.inferenceService", message)


@lint(
    "kserve-config",
    "Each part of KServe's configuration is JSON; Standard mode's canaries need enableGatewayApi.",
    "correct the JSON; set ingress.enableGatewayApi to true where spec.canary is used",
)
def configuration(estate: Estate) -> Iterator[Broken]:
    splits = [t for t in estate.all("InferenceService") if _mode(estate, t) == "Standard" and t.spec.get("canary")]
    for config in estate.of("ConfigMap"):
        if config.name != CONFIG:
            continue
        for key, text in (config.document.get("data") or {}).items():
            if not key.startswith("_") and _json(text) is None:
                yield Broken(config, f"data.{key}", "is no JSON")
        ingress = _json(at(config.document, "data.ingress"))
        if splits and not (isinstance(ingress, dict) and ingress.get("enableGatewayApi") is True):
            yield Broken(config, "data.ingress", f"{splits[0]} splits traffic, and nothing would: no Gateway API")
