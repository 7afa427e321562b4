import pytest

from slipway.workloads.movies.experiments import probe
from slipway.workloads.movies.experiments.probe import Job
from slipway.workloads.movies.ranker.config import RankerConfig, TrainConfig

SHAPE = RankerConfig(dim=8, layers=1, heads=1, max_len=8)


def test_made_up_histories_have_equal_lengths_and_a_head():
    made = probe.histories(sequences=200, length=8, items=50, seed=1)
    assert made.lengths.tolist() == [9] * 200
    assert made.items.min() >= 1
    assert made.items.max() <= 50
    assert (made.items == 1).mean() > 3 * (made.items == 20).mean()


@pytest.mark.slow
def test_a_probe_measures_a_fresh_process_and_says_why_one_fails(tmp_path):
    config = TrainConfig(ranker=SHAPE, epochs=1, tokens_per_step=80, precision="fp32")
    left = tmp_path / "good" / "shards-0"  # of another arm: nobody may train on it
    left.mkdir(parents=True)
    (left / "other.parquet").touch()
    good = probe.run(Job(config=config, sequences=20, items=50), tmp_path / "good")
    assert not (left / "other.parquet").exists()
    assert good["tokens"] == 160
    assert 0 < good["start_mib"] <= good["peak_mib"]
    assert good["train_loss"] == pytest.approx(3.9, abs=0.5)  # log 50: hardly trained
    bad = config.model_copy(update={"learning_rate": 1e30})
    failed = probe.run(Job(config=bad, sequences=200, items=50), tmp_path / "bad")
    assert "nan" in failed["error"] or "inf" in failed["error"]
