"""What the code itself renders, held against the same schemas and lints, in the repository's own cluster."""

import shutil
from datetime import UTC, datetime

import pytest

from cluster import celrules, lints, overlays, schemas
from cluster.crds import Definitions
from cluster.estate import Estate
from cluster.objects import Object
from components.train import rayjob
from slipway.inferenceservice import render
from slipway.package import Manifest, Signature, Snapshot
from slipway.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")
REGISTRY = "registry.example.com/slipway"
PACKAGE = Manifest(
    workload="movies",
    version="0123456789ab",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    git_commit="a" * 40,
    pipeline_run="run-7",
    data=Snapshot(uri="s3://lake/movies", sha256="b" * 64, events=10),
    signature=Signature(inputs=(), outputs=()),
    metrics={},
    files={},
)


@pytest.fixture(scope="module")
def built() -> list[overlays.Built]:
    return overlays.build_all([o for o in overlays.find() if not o.instead_of])


def training(gpu: bool, workers: int = 2) -> Object:
    """As the train step asks for it, with the settings' own sizes."""
    env = Settings.model_validate({})
    wanted = rayjob.Wanted(
        run="0f8fad5b-d9cb-469f-a165-70867728950e",
        key="k1",
        uri="s3://packages/slipway/training/k1",
        namespace="slipway-training",
        image=f"{REGISTRY}/training:0.1.0",
        workers=workers,
        gpu=gpu,
        cpus=env.ray_cpus,
        memory=env.ray_memory,
        wait=env.ray_wait_seconds,
        deadline=env.ray_deadline_seconds,
    )
    return Object("rendered", rayjob.render(wanted))


def serving() -> list[Object]:
    documents = render(
        PACKAGE,
        name="trial",
        namespace="slipway-trials",
        storage_uri="s3://packages/slipway/packages/movies/0123456789ab",
        image=f"{REGISTRY}/serving:0.1.0",
        canary_traffic_percent=10,
    )
    return [Object("rendered", document) for document in documents]


def findings(things: list[Object], built: list[overlays.Built], definitions: Definitions) -> list[tuple[str, ...]]:
    rules, found = celrules.Rules(), []
    for thing in things:
        result = schemas.check(thing, definitions)
        found += result.findings
        definition = definitions.get(thing.group, thing.kind, thing.version)
        assert definition is not None
        celrules.check(thing, definition, rules)
    whole = [o for one in built for o in one.objects] + things
    quotas = [o for o in whole if o.kind == "ResourceQuota" and o.namespace == things[0].namespace]
    found += rules.findings
    found += lints.run(Estate(tuple(whole), (*things, *quotas), overlays.ROOT.parent)).findings
    return [(f.check, f.object, f.path, f.message) for f in found]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_training_run_fits_its_cluster(gpu, built, definitions) -> None:
    assert findings([training(gpu)], built, definitions) == []


def test_a_training_run_that_is_too_large_for_the_quota_is_seen(built, definitions) -> None:
    found = findings([training(gpu=True, workers=100)], built, definitions)
    assert {check for check, *_ in found} == {"quota"}


def test_a_rendered_service_fits_its_cluster(built, definitions) -> None:
    assert findings(serving(), built, definitions) == []
