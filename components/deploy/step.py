"""A registered package → a ready InferenceService that has all traffic, and the registry's alias `champion`.

Through the Kubernetes API: KServe's, or the embedded one's. Judged rollouts are the canary step's.
"""

import os
from pathlib import Path

from components.report import emit, step
from slipway import inferenceservice
from slipway.deployment import Services
from slipway.lake.lake import Lake
from slipway.rollout import candidate, promotion
from slipway.rollout.controller import Places
from slipway.rollout.record import Entry
from slipway.rollout.telemetry import EmbeddedTelemetry
from slipway.settings import settings
from slipway.tracking import Tracker


def run(workload_name: str, package_uri: str, run_id: str) -> str:
    """Returns the service's URL once the model has all traffic. Raises NotReadyError, HeldError."""
    with step("deploy") as progress:
        env = settings()
        tracker = Tracker(env.tracking, workload_name)
        package = candidate.resolve(package_uri, workload_name, tracker, env.s3_endpoint_url)
        documents = inferenceservice.render(
            package.manifest,
            name=workload_name,
            namespace=env.namespace,
            storage_uri=package_uri,
            image=env.serving_image,
        )
        kubeconfig = Path(os.environ["KUBECONFIG"]) if "KUBECONFIG" in os.environ else None
        services = Services(env.namespace, kubeconfig)
        places = Places(
            workload_name,
            services,
            EmbeddedTelemetry(services),
            Lake(env.store, env.s3_endpoint_url),
            env.data_set,
            tracker,
            kubeconfig=kubeconfig,
        )
        said = ""

        def say(told: Entry) -> None:
            nonlocal said
            now = f"{told.phase}: {told.note or told.reason}".rstrip(": ")
            if now != said:
                progress(now, 0.5, {})
                said = now

        progress(f"applying InferenceService {env.namespace}/{workload_name}", 0.2, {})
        promotion.deploy(places, documents, package, say)
        url = str(services.get(workload_name)["status"]["url"])
        tracker.run(run_id).log(tags={"endpoint": url, "champion": package.version.number})
        emit("deployed", step="deploy", url=url)
        return url
