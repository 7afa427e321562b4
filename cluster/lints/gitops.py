"""What Argo CD is told: that its paths are there, that everything is applied, and that it undoes no rollout."""

import re
from collections.abc import Iterator
from typing import Any

from cluster.estate import Estate, is_ours
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, at, listed
from cluster.overlays import FILE

TRAFFIC = "/spec/predictor/canaryTrafficPercent"
OUT_OF_SYNC = "RespectIgnoreDifferences=true"


def _sources(thing: Object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of an Application, or of an ApplicationSet's template."""
    base = "spec.template.spec" if thing.kind == "ApplicationSet" else "spec"
    if isinstance(at(thing.document, f"{base}.source"), dict):
        yield f"{base}.source", at(thing.document, f"{base}.source")
    for index, source in enumerate(listed(thing.document, f"{base}.sources")):
        yield f"{base}.sources[{index}]", source


def _paths(thing: Object) -> Iterator[tuple[str, str]]:
    for where, source in _sources(thing):
        path = source.get("path")
        if isinstance(path, str) and is_ours(source):
            yield f"{where}.path", path


@lint("app-path", "The folder that an Argo CD Application applies is there.", "correct spec.source.path")
def app_paths(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Application", "ApplicationSet"):
        for where, path in _paths(thing):
            if "{" in path:
                continue  # an ApplicationSet's template
            if not (estate.repository / path / FILE).is_file():
                yield Broken(thing, where, f"there is no {path}/{FILE}")


@lint("app-project", "The project of an Application is there and allows its source.", "add it to the AppProject")
def app_projects(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Application", "ApplicationSet"):
        base = "spec.template.spec" if thing.kind == "ApplicationSet" else "spec"
        name = str(at(thing.document, f"{base}.project", "default"))
        project = estate.get("AppProject", thing.namespace, name)
        if project is None:
            if name != "default":
                yield Broken(thing, f"{base}.project", f"there is no AppProject {name}")
            continue
        allowed = [str(entry) for entry in listed(project.spec, "sourceRepos")]
        for where, source in _sources(thing):
            url = str(source.get("repoURL", ""))
            if not any(re.fullmatch(re.escape(a).replace(r"\*", ".*"), url) for a in allowed):
                yield Broken(thing, f"{where}.repoURL", f"project {name} does not allow {url}")
        namespace = str(at(thing.document, f"{base}.destination.namespace", ""))
        places = [str(d.get("namespace", "*")) for d in listed(project.spec, "destinations")]
        if namespace and not any(re.fullmatch(re.escape(p).replace(r"\*", ".*"), namespace) for p in places):
            yield Broken(thing, f"{base}.destination.namespace", f"project {name} does not allow {namespace}")


@lint("app-chart", "A chart or a foreign repository is taken at a version, not at a branch.", "pin targetRevision")
def app_charts(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Application", "ApplicationSet"):
        for where, source in _sources(thing):
            revision = str(source.get("targetRevision", ""))
            if not is_ours(source) and not re.fullmatch(r"v?\d+(\.\d+)+[\w.+-]*|[0-9a-f]{40}", revision):
                yield Broken(thing, f"{where}.targetRevision", f"{revision or 'nothing'} may change by itself")


@lint(
    "app-traffic",
    "Where Argo CD heals what was changed by hand, it leaves the traffic of a rollout alone.",
    "ignoreDifferences for InferenceService with jsonPointers [/spec/predictor/canaryTrafficPercent], and the sync "
    "option RespectIgnoreDifferences=true",
)
def app_traffic(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Application", "ApplicationSet"):
        base = "spec.template.spec" if thing.kind == "ApplicationSet" else "spec"
        applied = {path.removeprefix("manifests/").strip("/") for _, path in _paths(thing)}
        services = [s for s in estate.all("InferenceService") if s.overlay in applied or _any(s.overlay, applied)]
        rolled = [s for s in services if s.annotations.get("serving.kserve.io/deploymentMode") in {None, "Knative"}]
        if not rolled or not at(thing.document, f"{base}.syncPolicy.automated"):
            continue
        ignored = [
            pointer
            for entry in listed(thing.document, f"{base}.ignoreDifferences")
            if entry.get("kind") == "InferenceService"
            for pointer in [*listed(entry, "jsonPointers"), *listed(entry, "jqPathExpressions")]
        ]
        if not any(TRAFFIC.replace("/", ".") in p.replace("/", ".") for p in ignored):
            yield Broken(thing, f"{base}.ignoreDifferences", f"a sync undoes the canary's share of {rolled[0]}")
        elif OUT_OF_SYNC not in listed(thing.document, f"{base}.syncPolicy.syncOptions"):
            message = f"the difference is ignored, and the next sync undoes it: no {OUT_OF_SYNC}"
            yield Broken(thing, f"{base}.syncPolicy.syncOptions", message)


def _any(overlay: str, patterns: set[str]) -> bool:
    """Whether an ApplicationSet's template path, {{…}} for anything, means the overlay."""
    return any(
        "{" in p and re.fullmatch(re.sub(r"\\\{\\\{.*?\\\}\\\}", "[^/]+", re.escape(p)), overlay) for p in patterns
    )


@lint(
    "applied", "Every overlay is applied by an Application.", "add an Application with its path, or remove the folder"
)
def applied(estate: Estate) -> Iterator[Broken]:
    applications = estate.all("Application", "ApplicationSet")
    if not applications:
        return
    paths = {path.removeprefix("manifests/").strip("/") for app in applications for _, path in _paths(app)}
    roots = {app.overlay for app in applications}
    for folder in estate.folders:
        if folder not in paths and folder not in roots and not _any(folder, paths):
            first = next((t for t in estate.mine if t.overlay == folder), None)
            if first is not None:
                yield Broken(first, "", f"no Application applies manifests/{folder}")
