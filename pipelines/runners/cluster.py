"""The same compiled pipeline on Kubeflow Pipelines. Submits and follows; every step runs in its pod.

    SLIPWAY_KFP_ENDPOINT=https://kubeflow.example/pipeline SLIPWAY_IMAGE=<registry>/slipway-pipeline@sha256:… \\
        slipway run --runner cluster --data s3://bucket/ml-25m
"""

import tempfile
from pathlib import Path

from components.image import IMAGE
from pipelines import fingerprint, ir
from pipelines.parameters import EtlParameters, Parameters
from slipway.errors import ConfigError, PipelineError
from slipway.lake.reference import is_reference
from slipway.settings import Settings


def submit(parameters: Parameters | EtlParameters, env: Settings) -> str:
    """Start a run and return its id. Raises ConfigError before anything is sent when it could not work."""
    if not env.kfp_endpoint:
        raise ConfigError("no Kubeflow Pipelines endpoint is set", "set SLIPWAY_KFP_ENDPOINT")
    if is_reference(parameters.data) and not env.store.startswith("s3://"):
        raise ConfigError(
            f"the cluster cannot read the lake in {env.store}", "set SLIPWAY_STORE_URI=s3://bucket/prefix"
        )
    if not (parameters.data == "simulated" or parameters.data.startswith("s3://") or is_reference(parameters.data)):
        raise ConfigError(f"the cluster cannot read {parameters.data!r}", "upload it and name it as s3://bucket/prefix")
    import kfp

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{parameters.pipeline}.yaml"
        package.write_text(ir.compile_ir(parameters.pipeline).replace(IMAGE, env.image))
        try:
            run = kfp.Client(host=env.kfp_endpoint).create_run_from_pipeline_package(
                str(package),
                arguments=fingerprint.arguments(parameters, env),
                experiment_name=parameters.workload,
                enable_caching=True,
            )
        except Exception as error:  # kfp raises whatever its HTTP client does
            raise PipelineError(
                f"Kubeflow Pipelines at {env.kfp_endpoint} refused the run: {error}",
                "check the endpoint, your login, and that the experiment's namespace allows you",
            ) from error
    return str(run.run_id)
