import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from slipway.errors import TrainingError
from slipway.workload import Scaling
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import Combination
from slipway.workloads.movies.ranker import loop
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.training import Record, train
from slipway.workloads.movies.splits import Protocol

Make = Callable[..., TrainConfig]
Told = list[tuple[str, float, Mapping[str, float]]]


def quiet(*_: object) -> None:
    pass


def weights(model: Path) -> dict[str, np.ndarray]:
    with np.load(model / "ranker.npz") as arrays:
        return dict(arrays)


def assert_equal(a: Path, b: Path) -> None:
    for name, array in weights(a).items():
        np.testing.assert_array_equal(array, weights(b)[name], err_msg=name)


def test_learns_the_order_and_writes_the_model_folder(chain_data: Path, tmp_path: Path, small: Make) -> None:
    told: Told = []
    out = tmp_path / "model"
    found = train(chain_data, out, small(), Scaling(), lambda *said: told.append(said), (tmp_path / "resume").as_uri())

    names = {"combine.json", "counts.npz", "ranker.json", "ranker.npz", "training.json"}
    names |= {"reranker.txt", "reranker.json", "item_vectors.npy", "item_table.npz"}
    names |= {f"counts_{relation}.npz" for relation in ("near", "far", "linear")}
    assert {p.name for p in out.iterdir()} == names
    record = Record.model_validate_json((out / "training.json").read_text())
    losses = [epoch["train_loss"] for epoch in record.epochs]
    assert len(losses) == 6
    assert losses[-1] < 0.7 * losses[0]
    # 9 of 10 steps follow the chain; guessing gives 4.5436 / 30 = 0.15
    assert found["validation_ndcg10_ranker"] > 0.75
    assert found["validation_ndcg10_combined"] >= found["validation_ndcg10_counts"] - 1e-9
    assert record.protocol is Protocol.TEMPORAL
    assert record.data_sha256 == "0" * 64
    assert record.cpu_seconds > 0
    assert record.best_epoch == max(record.epochs, key=lambda e: e["validation_ndcg10"])["epoch"]

    epochs = [metrics for _, _, metrics in told if "train_loss" in metrics]
    assert [e["epoch"] for e in epochs] == [1, 2, 3, 4, 5, 6]
    assert all({"validation_ndcg10", "tokens_per_cpu_second"} <= e.keys() for e in epochs)
    shares = [share for _, share, _ in told if share > 0]
    assert shares[-1] == 1

    scorer, counts = RankerScorer.load(out), Counts.load(out / "counts.npz")
    assert scorer.name == "ranker"
    assert counts.n_items == scorer.model.n_items == 30
    assert Combination.load(out).epsilon > 0


def test_same_seed_same_model_and_another_seed_another(chain_data: Path, tmp_path: Path, small: Make) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)  # what others draw does not matter
        train(
            chain_data,
            tmp_path / name,
            small(epochs=1, seed=seed),
            Scaling(),
            quiet,
            (tmp_path / f"resume-{name}").as_uri(),
        )
    assert_equal(tmp_path / "a", tmp_path / "b")
    assert (weights(tmp_path / "a")["item.weight"] != weights(tmp_path / "c")["item.weight"]).any()


def test_a_killed_run_goes_on_in_the_middle_of_an_epoch_to_the_same_model(
    chain_data: Path, tmp_path: Path, small: Make
) -> None:
    config = small(
        ranker={"user_dim": 4, "keep_user": 0.8, "keep_item": 0.9},
        epochs=4,
        shard_events=400,
        accumulation=2,
        precision="fp32",
        checkpoint_every=3,
    )
    unbroken = config.model_copy(update={"checkpoint_every": None})  # how often it is kept decides nothing
    train(chain_data, tmp_path / "unbroken", unbroken, Scaling(), quiet, (tmp_path / "resume-unbroken").as_uri())
    record = Record.model_validate_json((tmp_path / "unbroken" / "training.json").read_text())
    each = int(record.epochs[0]["step"])  # steps of an epoch
    assert each % 3, "the last checkpoint must lie within the epoch"
    assert each > 3

    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from slipway.workload import Scaling
        from slipway.workloads.movies.ranker import loop
        from slipway.workloads.movies.ranker.config import TrainConfig
        from slipway.workloads.movies.ranker.training import train

        learn = loop.Learner.learn

        def stopping(self, step, number, rate):
            if number == {each + each // 3 * 3 + 1}:  # one step after the last checkpoint within the second epoch
                print("here", flush=True)
                time.sleep(500)
            return learn(self, step, number, rate)

        loop.Learner.learn = stopping
        config = TrainConfig.model_validate_json({config.model_dump_json()!r})
        train(Path({str(chain_data)!r}), Path({str(tmp_path / "out")!r}), config, Scaling(), lambda *_: None,
              {(tmp_path / "resume").as_uri()!r})
    """)
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert child.stdout is not None
        assert any(line.strip() == "here" for line in child.stdout)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait(timeout=30)
        assert child.stdout is not None
        child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    reached = max((tmp_path / "resume").glob("step-*.pt"))
    assert each < int(reached.stem.removeprefix("step-")) < 2 * each

    told: Told = []
    train(
        chain_data, tmp_path / "out", config, Scaling(), lambda *said: told.append(said), (tmp_path / "resume").as_uri()
    )
    assert [m["epoch"] for _, _, m in told if "train_loss" in m] == [2, 3, 4]
    assert_equal(tmp_path / "unbroken", tmp_path / "out")
    histories = [
        [(e["epoch"], e["step"], e["train_loss"], e["validation_ndcg10_raw"], e["validation_ndcg10_ema"]) for e in r]
        for r in (
            Record.model_validate_json((tmp_path / name / "training.json").read_text()).epochs
            for name in ("unbroken", "out")
        )
    ]
    assert histories[0] == histories[1]


def test_a_finished_run_is_not_trained_again(chain_data: Path, tmp_path: Path, small: Make) -> None:
    config = small(epochs=1)
    train(chain_data, tmp_path / "a", config, Scaling(), quiet, (tmp_path / "resume").as_uri())
    told: Told = []
    train(
        chain_data, tmp_path / "b", config, Scaling(), lambda *said: told.append(said), (tmp_path / "resume").as_uri()
    )
    assert not [m for _, _, m in told if "train_loss" in m]
    assert_equal(tmp_path / "a", tmp_path / "b")


def test_a_foreign_checkpoint_is_refused(chain_data: Path, tmp_path: Path, small: Make) -> None:
    train(chain_data, tmp_path / "a", small(epochs=1), Scaling(), quiet, (tmp_path / "resume").as_uri())
    with pytest.raises(TrainingError, match="another configuration") as raised:
        train(chain_data, tmp_path / "b", small(epochs=2), Scaling(), quiet, (tmp_path / "resume").as_uri())
    assert "remove" in raised.value.remedy
    assert not (tmp_path / "b").exists()


def test_a_loss_that_is_no_number_stops_the_run(
    chain_data: Path, tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.TrainingStep.forward

    def poisoned(self: loop.TrainingStep, *batch: torch.Tensor) -> torch.Tensor:
        return real(self, *batch) * (torch.nan if list((tmp_path / "resume").glob("step-*.pt")) else 1)

    monkeypatch.setattr(loop.TrainingStep, "forward", poisoned)
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 2, step \d+") as raised:
        train(chain_data, tmp_path / "out", small(), Scaling(), quiet, (tmp_path / "resume").as_uri())
    assert "learning_rate" in raised.value.remedy
    assert len(list((tmp_path / "resume").glob("*.pt"))) == 1
    assert not (tmp_path / "out").exists()


def test_patience_stops_early(chain_data: Path, tmp_path: Path, small: Make) -> None:
    config = small(epochs=30, patience=2, learning_rate=1e-9)
    train(chain_data, tmp_path / "out", config, Scaling(), quiet, (tmp_path / "resume").as_uri())
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert len(record["epochs"]) == record["best_epoch"] + 2 < 30


def test_leave_one_out_on_request(chain_data: Path, tmp_path: Path, small: Make) -> None:
    train(
        chain_data, tmp_path / "out", small(epochs=1, protocol="loo"), Scaling(), quiet, (tmp_path / "resume").as_uri()
    )
    assert json.loads((tmp_path / "out" / "training.json").read_text())["protocol"] == "loo"


def test_a_gpu_that_is_not_there(chain_data: Path, tmp_path: Path, small: Make) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TrainingError, match="GPU"):
        train(chain_data, tmp_path / "out", small(), Scaling(0, use_gpu=True), quiet, (tmp_path / "resume").as_uri())
