"""What a step's pod is given on Kubernetes: resources, settings, room to write, another try. Knows no step's work.

kfp.local ignores all of it. A pod's root file system can be read-only, because what a step writes goes to two
ephemeral volumes; Kubeflow itself has no switch for that.
"""

import sys
from dataclasses import dataclass
from types import SimpleNamespace

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_task
from kfp.dsl.pipeline_channel import PipelineChannel

# Each setter of a task asks for the whole stack, with its lines of source, to name itself in an error: 70 ms, 50 times
# in each process that imports a pipeline. The name alone costs nothing.
pipeline_task.inspect = SimpleNamespace(stack=lambda: [(), (None, None, None, sys._getframe(2).f_code.co_name)])

RUN_ID_LABEL = "metadata.labels['pipeline/runid']"
USER = 10001
SERVICE_ACCOUNT = "slipway-runner"
GPU = "nvidia.com/gpu"
GPU_POOL = {"slipway.dev/pool": "gpu"}
GPU_TAINT = {"key": GPU, "operator": "Equal", "value": "present", "effect": "NoSchedule"}

SETTINGS, CREDENTIALS = "slipway-settings", "slipway-credentials"
# KFP knows no envFrom. Without the first two nothing works: a pod without them does not start, and says so.
REQUIRED = ("SLIPWAY_STORE_URI", "SLIPWAY_TRACKING_URI")
OPTIONAL = (
    *("SLIPWAY_HOME", "SLIPWAY_DATA_SET", "SLIPWAY_S3_ENDPOINT_URL", "SLIPWAY_EVENTS_URL", "SLIPWAY_FEATURE_STORE"),
    *("FEAST_FS_YAML_FILE_PATH", "MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "DO_NOT_TRACK"),
    *("SLIPWAY_NAMESPACE", "SLIPWAY_STAGING_NAMESPACE", "SLIPWAY_PROMETHEUS_URL", "SLIPWAY_SERVING_IMAGE"),
    "SLIPWAY_TRAINING_NAMESPACE",
    *("SLIPWAY_RAY_CPUS", "SLIPWAY_RAY_MEMORY", "SLIPWAY_RAY_WAIT_SECONDS", "SLIPWAY_RAY_DEADLINE_SECONDS"),
    *("AWS_REGION", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "OMP_NUM_THREADS"),
)
SECRETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "FEAST_REGISTRY", "FEAST_REDIS"),
    *("SLIPWAY_CAPTURE_SECRET", "SLIPWAY_EDGE_TOKEN"),
)


@dataclass(frozen=True)
class Needs:
    """cpu, memory: asked for, and the limit; room: of the ephemeral volumes; tries: again after a failure, with
    back-off, which only a step may have whose failure is no verdict.
    """

    cpu: tuple[str, str]
    memory: tuple[str, str]
    room: str
    minutes: int
    tries: int = 0


SMALL, LARGE = ("250m", "1"), ("1", "2")
NEEDS = {
    "load": Needs(LARGE, ("2Gi", "6Gi"), "20Gi", 120, tries=2),
    "validate": Needs(LARGE, ("2Gi", "6Gi"), "5Gi", 60),  # broken rules are as broken the second time
    "features": Needs(LARGE, ("2Gi", "8Gi"), "10Gi", 120, tries=2),
    "ingest": Needs(LARGE, ("2Gi", "6Gi"), "20Gi", 120, tries=2),
    "train": Needs(("2", "4"), ("6Gi", "12Gi"), "20Gi", 24 * 60, tries=2),  # goes on from its checkpoint
    "evaluate": Needs(LARGE, ("4Gi", "8Gi"), "10Gi", 120, tries=1),
    "optimise": Needs(LARGE, ("4Gi", "8Gi"), "10Gi", 120, tries=1),
    "register": Needs(SMALL, ("1Gi", "3Gi"), "5Gi", 30, tries=2),  # the same package again is the same version
    "stage": Needs(LARGE, ("1Gi", "3Gi"), "5Gi", 60),  # a refusal is a verdict
    "deploy": Needs(SMALL, ("1Gi", "2Gi"), "5Gi", 60, tries=2),
    "canary": Needs(SMALL, ("1Gi", "2Gi"), "5Gi", 7 * 24 * 60),  # a second try would begin a second rollout
}


def place(name: str, task: dsl.PipelineTask) -> None:
    """name: of the step."""
    needs = NEEDS[name]
    task.set_cpu_request(needs.cpu[0]).set_cpu_limit(needs.cpu[1])
    task.set_memory_request(needs.memory[0]).set_memory_limit(needs.memory[1])
    if needs.tries:
        task.set_retry(needs.tries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    kubernetes.set_timeout(task, needs.minutes * 60)
    kubernetes.use_field_path_as_env(task, "SLIPWAY_PIPELINE_RUN", RUN_ID_LABEL)
    kubernetes.use_config_map_as_env(task, SETTINGS, {key: key for key in REQUIRED})
    kubernetes.use_config_map_as_env(task, SETTINGS, {key: key for key in OPTIONAL}, optional=True)
    kubernetes.use_secret_as_env(task, CREDENTIALS, {key: key for key in SECRETS}, optional=True)
    for volume, path in (("tmp", "/tmp"), ("home", "/home/slipway")):  # noqa: S108 - the image's only writable paths
        kubernetes.empty_dir_mount(task, volume, path, size_limit=needs.room)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    for key, value in (("name", name), ("component", "pipeline"), ("part-of", "slipway")):
        kubernetes.add_pod_label(task, f"app.kubernetes.io/{key}", value)


def on_gpu(
    task: dsl.PipelineTask, gpus: PipelineChannel, node_selector: PipelineChannel, tolerations: PipelineChannel
) -> None:
    """Parameters of the pipeline decide, so that one compiled file serves both: 0, {} and [] are a pod without."""
    task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
