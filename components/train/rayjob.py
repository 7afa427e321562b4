"""A training with workers → the RayJob that KubeRay runs it as (ray.io/v1). Pure; knows no API.

One Ray worker to a pod: of each pod Ray offers one CPU, and one GPU where there are some, so that no two trainers are
packed into one while the others stand idle.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

Document = dict[str, Any]

NAME_LENGTH = 47  # KubeRay's limit: it makes names of Services from it
TTL = 600  # seconds that a finished job whose submitter is gone may be looked at
KEY = "slipway.dev/training"
LABELS = {
    "app.kubernetes.io/name": "ray",
    "app.kubernetes.io/component": "training",
    "app.kubernetes.io/part-of": "slipway",
}
GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "operator": "Equal", "value": "present", "effect": "NoSchedule"}
USER = 10001


@dataclass(frozen=True)
class Wanted:
    """uri: of what the driver reads and writes (job.py); key: of the training, the same for each try of it.

    cpus, memory: of each pod; wait, deadline: seconds until all pods must run, and until all is done.
    """

    run: str
    key: str
    uri: str
    namespace: str
    image: str
    workers: int
    gpu: bool
    cpus: int
    memory: str
    wait: int
    deadline: int


def name(run: str) -> str:
    """slipway-train-<run id>; an id of Kubeflow (a UUID) loses its dashes, and fits."""
    short = re.sub(r"[^a-z0-9]", "", run.lower())
    return f"slipway-train-{short}"[:NAME_LENGTH]


def render(wanted: Wanted) -> Document:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name(wanted.run),
            "namespace": wanted.namespace,
            "labels": {**LABELS, KEY: wanted.key},
        },
        "spec": {
            "entrypoint": f"python -m components.train.job {wanted.uri}",
            "submissionMode": "K8sJobMode",
            # Whatever happens to whoever submitted it, the pods go.
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": TTL,
            "activeDeadlineSeconds": wanted.deadline,
            "preRunningDeadlineSeconds": wanted.wait,
            # Lost workers are Ray Train's business, a lost head that of the step, which Kubeflow tries again.
            "backoffLimit": 0,
            "submitterPodTemplate": _submitter(wanted),
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - a pod's own
                    "template": _pod("ray-head", wanted, gpu=False),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "gpu" if wanted.gpu else "cpu",
                        "replicas": wanted.workers,
                        "minReplicas": wanted.workers,
                        "maxReplicas": wanted.workers,
                        "rayStartParams": {"num-cpus": "1"} | ({"num-gpus": "1"} if wanted.gpu else {}),
                        "template": _pod("ray-worker", wanted, gpu=wanted.gpu),
                    }
                ],
            },
        },
    }


def _pod(container: str, wanted: Wanted, *, gpu: bool) -> Document:
    """The head's driver holds the data set and fits the trees: it has what a worker has, but no GPU."""
    resources = {"cpu": str(wanted.cpus), "memory": wanted.memory, **({GPU: "1"} if gpu else {})}
    disk = ({"ephemeral-storage": "10Gi"}, {"ephemeral-storage": "40Gi"})  # asked for, and the limit
    ports = [("gcs-server", 6379), ("dashboard", 8265), ("client", 10001)] if container == "ray-head" else []
    main: Document = {
        "name": container,
        "image": wanted.image,
        "env": _env(wanted),
        # A pod without its settings does not start, and says which ConfigMap it misses.
        "envFrom": [
            {"configMapRef": {"name": "slipway-settings"}},
            {"secretRef": {"name": "slipway-credentials", "optional": True}},
        ],
        "resources": {"requests": resources | disk[0], "limits": resources | disk[1]},
        "securityContext": _security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "home", "mountPath": "/home/slipway"},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    if ports:
        main["ports"] = [{"name": port, "containerPort": number} for port, number in ports]
    return {
        "metadata": {"labels": {**LABELS, KEY: wanted.key}},
        "spec": {
            "serviceAccountName": "slipway-ray",
            "automountServiceAccountToken": False,
            "priorityClassName": "slipway-training",
            "securityContext": _pod_security(),
            "nodeSelector": {"slipway.dev/pool": "gpu" if gpu else "cpu"},
            **({"tolerations": [TAINT]} if gpu else {}),
            "containers": [main],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": "30Gi"}},
                {"name": "home", "emptyDir": {"sizeLimit": "64Mi"}},
                # Ray's objects, which lie in memory: without it a pod has 64 MiB.
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _share(wanted.memory, 0.3)}},
            ],
        },
    }


def _submitter(wanted: Wanted) -> Document:
    """KubeRay puts its command in: `ray job submit`, and the job's log until it ends."""
    small = {"cpu": "250m", "memory": "512Mi", "ephemeral-storage": "256Mi"}
    return {
        "metadata": {"labels": {**LABELS, KEY: wanted.key}},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "slipway-ray",
            "automountServiceAccountToken": False,
            "priorityClassName": "slipway-training",
            "securityContext": _pod_security(),
            "containers": [
                {
                    "name": "ray-job-submitter",
                    "image": wanted.image,
                    "resources": {
                        "requests": small,
                        "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi"},
                    },
                    "securityContext": _security(),
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }


def _env(wanted: Wanted) -> list[Mapping[str, str]]:
    values = {
        "SLIPWAY_PIPELINE_RUN": wanted.run,
        "SLIPWAY_HOME": "/tmp/slipway",  # noqa: S108
        "OMP_NUM_THREADS": str(wanted.cpus),  # one trainer to a pod has all of them
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return [{"name": key, "value": value} for key, value in values.items()]


def _security() -> Document:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _pod_security() -> Document:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _share(memory: str, share: float) -> str:
    """16Gi, 0.3 → 4915Mi: a whole number, as Kubernetes prefers."""
    amount, unit = float(memory[:-2]), memory[-2:]
    mebibytes = amount * {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "Ti": 1024**2}[unit]
    return f"{max(int(mebibytes * share), 64)}Mi"
