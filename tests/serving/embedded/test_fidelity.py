"""KServe's canary as docs/embedded-kserve.md tells it: each row of its table by the real kubectl; kserve's client."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.embedded import stack

DOCUMENT = Path(__file__).parents[3] / "docs" / "embedded-kserve.md"
PRINTED = ("READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION")
POINTERS = ("latestCreatedRevision", "latestRolledoutRevision", "previousRolledoutRevision")


@dataclass(frozen=True)
class Step:
    """change: as the table has it; printed: by column of kubectl; pointers: by field of the status."""

    change: str
    printed: dict[str, str]
    pointers: dict[str, str]


def scenarios() -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    rows = [line.strip("|").split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    start = next(number for number, row in enumerate(rows) if row[0].strip() == "Scenario")
    for row in rows[start + 2 :]:
        name, change, *cells = (cell.strip() for cell in row)
        if len(cells) != 8:
            break
        steps = found.setdefault(name, []) if name else list(found.values())[-1]
        printed = dict(zip(PRINTED, cells[:5], strict=True))
        for column in PRINTED[3:]:
            printed[column] = _revision(printed[column])
        pointers = dict(zip(POINTERS, map(_revision, cells[5:]), strict=True))
        steps.append(Step(change, printed, pointers))
    return found


def _revision(number: str) -> str:
    return f"movies-{int(number):05d}" if number else ""


def change(serving: Any, step: str, is_first: bool) -> None:
    """The first one is applied, the others are merge patches."""
    patch: dict[str, Any] = {"metadata": {}, "spec": {"predictor": {}}}
    package = ""
    for part in step.split(", "):
        match part.split():
            case ["package", name]:
                package = name
            case ["canary", "unset"]:
                patch["spec"]["predictor"]["canaryTrafficPercent"] = None
            case ["canary", percent]:
                patch["spec"]["predictor"]["canaryTrafficPercent"] = int(percent)
            case ["tag", "routing"]:
                patch["metadata"]["annotations"] = {"serving.kserve.io/enable-tag-routing": "true"}
            case other:
                raise AssertionError(f"no such change: {other}")
    if is_first:
        documents = serving.documents(package, **patch["spec"]["predictor"])
        documents[1]["metadata"] |= patch["metadata"]
        serving.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
        return
    if package:
        patch["spec"]["predictor"]["model"] = {"storageUri": serving.package(package)}
    serving.kubectl("patch", "isvc", "movies", "--type", "merge", "-p", json.dumps(patch))


def columns(text: str) -> dict[str, str]:
    """kubectl's header and its one row, by column; empty cells have no mark, so by position."""
    header, row = text.rstrip("\n").splitlines()
    names = header.split()
    places = [header.index(f"{name} ") if name != names[-1] else header.rindex(name) for name in names]
    places.append(len(row) + 1)
    return {name: row[places[n] : places[n + 1]].strip() for n, name in enumerate(names)}


SCENARIOS = scenarios()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kubectl_shows_what_kserve_would(serving: Any, eventually: Callable[..., None], scenario: str) -> None:
    for number, step in enumerate(SCENARIOS[scenario]):
        change(serving, step.change, is_first=number == 0)

        def settled(step: Step = step) -> bool:
            predictor = serving.status().get("components", {}).get("predictor", {})
            shares = {target["percent"] for target in predictor.get("traffic", [])}
            return (
                {name: predictor.get(name, "") for name in POINTERS} == step.pointers
                and shares == {int(step.printed[name]) for name in ("PREV", "LATEST") if step.printed[name]}
                and serving.condition().get("status") == step.printed["READY"]
            )

        eventually(settled, what=f"{step} is not {serving.status()}")
        printed = columns(serving.kubectl("get", "isvc", "movies"))
        assert {name: printed[name] for name in PRINTED} == step.printed
        asked = {
            step.printed[revision]
            for revision, share in (("PREVROLLEDOUTREVISION", "PREV"), ("LATESTREADYREVISION", "LATEST"))
            if step.printed[share] not in ("", "0")
        }
        assert {serving.ask()[1]["revision"] for _ in range(8)} <= asked


def test_a_tag_is_a_host_of_its_own(serving: Any) -> None:
    serving.deploy("one")
    serving.deploy("two", canaryTrafficPercent=0)
    serving.kubectl("annotate", "isvc", "movies", "serving.kserve.io/enable-tag-routing=true")
    serving.kubectl("wait", "isvc/movies", "--for=jsonpath={.status.components.predictor.traffic[0].tag}=latest")
    traffic = serving.status()["components"]["predictor"]["traffic"]
    assert [(t["tag"], t["percent"], t["latestRevision"]) for t in traffic] == [
        ("latest", 0, True),
        ("prev", 100, False),
    ]
    hosts = [t["url"].removeprefix("http://") for t in traffic]
    assert hosts[0] == f"latest-movies-predictor.default.localhost:{serving.settings.http_port}"
    asked = [*hosts, "latest-movies.default.localhost", "movies-predictor.default.localhost"]
    assert [serving.ask(headers={"Host": host})[1]["answer"] for host in asked] == ["two", "one", "two", "one"]


def test_kserves_own_client_creates_patches_waits_and_deletes(serving: Any) -> None:
    from kserve import KServeClient, V1beta1InferenceService

    client = KServeClient(config_file=str(stack.kubeconfig(serving.settings)))
    runtime, document = serving.documents("one")
    serving.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(runtime))

    def service(**predictor: Any) -> Any:
        """Of the SDK's own models, as its users write them."""
        from kserve import V1beta1ModelFormat, V1beta1ModelSpec, V1beta1PredictorSpec
        from kubernetes.client import V1ObjectMeta

        model = V1beta1ModelSpec(
            model_format=V1beta1ModelFormat(name="slipway"), runtime="standin", storage_uri=predictor.pop("uri")
        )
        return V1beta1InferenceService(
            api_version="serving.kserve.io/v1beta1",
            kind="InferenceService",
            metadata=V1ObjectMeta(name="movies", namespace="default"),
            spec={"predictor": V1beta1PredictorSpec(model=model, **predictor)},
        )

    client.create(service(uri=document["spec"]["predictor"]["model"]["storageUri"], min_replicas=1))
    client.wait_isvc_ready("movies", namespace="default", timeout_seconds=20, polling_interval=0.2)
    uri = serving.package("two")
    generation = client.patch("movies", service(uri=uri, canary_traffic_percent=30))["metadata"]["generation"]
    client.wait_isvc_ready(
        "movies", namespace="default", timeout_seconds=20, polling_interval=0.2, expected_generation=generation
    )
    found = client.get("movies", namespace="default")
    traffic = found["status"]["components"]["predictor"]["traffic"]
    assert [(t["revisionName"], t["percent"]) for t in traffic] == [("movies-00002", 30), ("movies-00001", 70)]
    with pytest.raises(RuntimeError, match=r"unknown field .*api_version"):
        client.replace("movies", _Snake(service(uri=uri)), namespace="default")
    client.delete("movies", namespace="default")
    with pytest.raises(RuntimeError, match="not found"):
        client.get("movies", namespace="default")


class _Snake(dict):  # type: ignore[type-arg]
    """The SDK's to_dict, which is not what a Kubernetes API takes: its names are Python's."""

    def __init__(self, service: Any) -> None:
        super().__init__(service.to_dict())
        self.api_version, self.metadata = service.api_version, service.metadata
