"""A registered package → a ready InferenceService that has all traffic, and the registry's alias `champion`.

Through the Kubernetes API: KServe's, or the embedded one's. Judged rollouts are the canary step's.
"""

import os
from dataclasses import replace
from pathlib import Path

from components.report import emit, step
from slipway import inferenceservice
from slipway.rollout import candidate, launch, promotion
from slipway.rollout.controller import Places
from slipway.rollout.record import Entry
from slipway.settings import Settings, settings
from slipway.tracking import Tracker
from slipway.workload import Progress


def run(workload_name: str, package_uri: str, run_id: str) -> str:
    """Returns the service's URL once the model has all traffic. Raises NotReadyError, HeldError."""
    with step("deploy") as progress:
        env = settings()
        tracker = Tracker(env.tracking, workload_name)
        url, number = direct(env, places(env, workload_name), tracker, package_uri, progress)
        tracker.run(run_id).log(tags={"endpoint": url, "champion": number})
        emit("deployed", step="deploy", url=url)
        return url


def places(env: Settings, workload_name: str, every: float = 5.0) -> Places:
    kubeconfig = Path(told) if (told := os.environ.get("KUBECONFIG")) else None
    return launch.places(env, workload_name, kubeconfig, every)


def direct(env: Settings, places: Places, tracker: Tracker, package_uri: str, progress: Progress) -> tuple[str, str]:
    """All traffic at once, without a judge; the URL and the registry's number, "" when it has none."""
    package = candidate.resolve(package_uri, places.name, tracker, env.s3_endpoint_url)
    documents = inferenceservice.render(
        package.manifest,
        name=places.name,
        namespace=env.namespace,
        storage_uri=package.version.uri,
        image=env.serving_image,
    )
    said = ""

    def say(told: Entry) -> None:
        nonlocal said
        now = f"{told.phase}: {told.note or told.reason}".rstrip(": ")
        if now != said:
            progress(now, 0.5, {})
            said = now

    progress(f"applying InferenceService {env.namespace}/{places.name}", 0.2, {})
    promotion.deploy(replace(places, tracker=tracker), documents, package, say)
    return str(places.services.get(places.name)["status"]["url"]), package.version.number
