"""Two workers on a real Ray: killed, exhausted, resumed from S3 to the same bits; sharded; and what they refuse."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from slipway import storage
from slipway.errors import TrainingError
from slipway.workload import Scaling
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import distribution, loop, shards
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.loop import Task
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.validation import Validation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # a minute and a half on a quiet machine

Make = Callable[..., TrainConfig]
FIGURES = ("epoch", "step", "train_loss", "validation_ndcg10_raw", "validation_ndcg10_ema")


@pytest.fixture(scope="module", autouse=True)
def ray_cluster(s3_endpoint: str) -> Iterator[None]:
    """One for all tests: workers inherit the environment that it is started in, the store's among it."""
    from slipway.cluster import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # a lost worker is noticed so much later
        patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")  # on a busy machine
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        patch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        with cluster(2):
            yield


def task(chain: Interactions, where: str, config: TrainConfig, endpoint: str | None = None) -> Task:
    data = shards.write(chain, f"{where}/data", config.shard_events, endpoint)
    return Task(data, Validation(chain, np.arange(5, 1500, 29), False), config, "test")


class Killer:
    """SIGKILLs one of the workers of our Ray as soon as a checkpoint of so many steps is there."""

    def __init__(self, uri: str, endpoint: str | None, step: int) -> None:
        self.objects, self.step = storage.store(uri, endpoint), step
        self.killed: list[int] = []
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Killer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(timeout=60)

    def _watch(self) -> None:
        ends = time.monotonic() + 1000  # starting workers takes minutes on a busy machine
        while time.monotonic() < ends:
            if any(int(key[5:-3]) >= self.step for key in self.objects.keys("step-")):
                workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in _title(p)]
                workers[-1].send_signal(signal.SIGKILL)
                self.killed.append(workers[-1].pid)
                return
            time.sleep(0.01)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_killed_workers_go_on_from_s3_to_the_unbroken_result(
    chain: Interactions, tmp_path: Path, s3_endpoint: str, small: Make
) -> None:
    config = small(tokens_per_step=64, epochs=12, checkpoint_every=4, precision="fp32", max_failures=0)
    here = tmp_path.as_uri()
    handler = signal.getsignal(signal.SIGINT)
    told: list[int] = []
    unbroken = distribution.fit(task(chain, here, config), Scaling(2), here, lambda epoch, _: told.append(epoch))
    assert told == list(range(1, 13))
    assert signal.getsignal(signal.SIGINT) is handler
    each = int(unbroken.history[0]["step"])
    assert each % 4, "some checkpoints must lie within epochs"

    there = "s3://bucket/killed"
    scaling = Scaling(2, s3_endpoint_url=s3_endpoint)
    told = []
    with (
        Killer(there, s3_endpoint, 2 * each + 4) as first,
        pytest.raises(TrainingError, match=r"more often than max_failures=0.*last checkpoint is of step") as raised,
    ):
        distribution.fit(task(chain, there, config, s3_endpoint), scaling, there, lambda epoch, _: told.append(epoch))
    assert first.killed
    assert "run again" in raised.value.remedy
    again = config.model_copy(update={"max_failures": 1})  # Ray starts the workers again by itself
    with Killer(there, s3_endpoint, 6 * each + 4) as second:
        resumed = distribution.fit(
            task(chain, there, again, s3_endpoint), scaling, there, lambda epoch, _: told.append(epoch)
        )
    assert second.killed
    assert second.killed != first.killed
    # An epoch that had been told was never trained again: what was lost lay within the checkpoint's interval.
    assert told == list(range(1, 13))
    assert_same(unbroken, resumed)


def test_sharded_parameters_train_as_whole_copies_do(chain: Interactions, tmp_path: Path, small: Make) -> None:
    """FSDP on gloo, and one worker that accumulates what two would share: equal but for rounding."""
    config = small(
        tokens_per_step=6 * 24,  # ten batches of six whole histories: none is left over for one worker alone
        epochs=2,
        precision="fp32",
        strategy="fsdp",
        activation_checkpointing=True,
        ranker={"dropout": 0.0, "user_dim": 4, "max_len": 24},
    )
    config = config.model_copy(update={"ranker": config.ranker.model_copy(update={"keep_user": 0.999_999})})
    uri = tmp_path.as_uri()
    begun = task(chain, uri, config)
    sharded = distribution.fit(begun, Scaling(2), uri, lambda *_: None)
    plain = replace(begun, config=config.model_copy(update={"strategy": "ddp", "accumulation": 2}))
    alone = loop.run(plain, Place(torch.device("cpu")), None, lambda _: None)
    assert sharded.step == alone.step
    # Not the weights: Adam makes steps of those gradients that are nothing but rounding, such as the keys' biases.
    for name in FIGURES:
        mine, theirs = ([record[name] for record in state.history] for state in (sharded, alone))
        assert mine == pytest.approx(theirs, rel=1e-2), name
    assert sharded.optimiser["state"].keys() == alone.optimiser["state"].keys()

    # A worker's own error comes back as itself, its remedy included, and is not tried again.
    few = task(chain, uri, config.model_copy(update={"tokens_per_step": 10**6}))
    with pytest.raises(TrainingError, match="too few for 2 worker") as raised:
        distribution.fit(few, Scaling(2), f"{uri}/few", lambda *_: None)
    assert "fewer workers" in raised.value.remedy


def assert_same(a: State, b: State) -> None:
    for name in FIGURES:
        assert [record[name] for record in a.history] == [record[name] for record in b.history], name
    assert (a.best_value, a.best_epoch) == (b.best_value, b.best_epoch)
    for mine, theirs in ((a.model, b.model), (a.average, b.average), (a.best, b.best)):
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name
