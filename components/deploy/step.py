"""A registered package → a ready InferenceService, through the Kubernetes API: KServe's, or the embedded one's."""

import os
from pathlib import Path

from components.report import emit, step
from slipway import deployment, inferenceservice, storage
from slipway.package import MANIFEST, Manifest
from slipway.settings import settings
from slipway.tracking import Tracker


def run(workload_name: str, package_uri: str, run_id: str, timeout: float = 180.0) -> str:
    """Returns the service's URL once the model itself is ready. Raises NotReadyError."""
    with step("deploy") as progress:
        env = settings()
        manifest = Manifest.model_validate_json(storage.store(package_uri, env.s3_endpoint_url).read(MANIFEST))
        documents = inferenceservice.render(
            manifest, name=workload_name, namespace=env.namespace, storage_uri=package_uri, image=env.serving_image
        )
        kubeconfig = Path(os.environ["KUBECONFIG"]) if "KUBECONFIG" in os.environ else None
        progress(f"applying InferenceService {env.namespace}/{workload_name}", 0.2, {})
        deployment.apply(documents, kubeconfig)
        progress("waiting for the model to be ready", 0.5, {})
        url = deployment.wait_ready(workload_name, env.namespace, timeout, kubeconfig)
        Tracker(env.tracking, workload_name).run(run_id).log(tags={"endpoint": url})
        emit("deployed", step="deploy", url=url)
        return url
