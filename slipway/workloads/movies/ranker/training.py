"""The training step: a data set in, a folder of trained models out. Knows the order of the work and the files.

    slipway run                       # on a laptop: in the step's own process
    slipway run --runner cluster      # on Ray workers, by the profile's scaling

<out>/ranker.json, ranker.npz   the transformer of the best validation
<out>/counts.npz                the counting baseline
<out>/combine.json              weight and epsilon of their combination, chosen on validation
<out>/training.json             how it came to be (Record)
"""

import hashlib
import json
import shutil
import time
from pathlib import Path

from pydantic import Field

from slipway.errors import TrainingError
from slipway.package import Frozen
from slipway.workload import Progress, Scaling
from slipway.workloads.movies import combine, dataset
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import Combination, CombinedScorer
from slipway.workloads.movies.dataset import DataSet
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import checkpoint, distribution, loop
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.loop import Task
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.splits import Protocol, choose, split

RANKER = "train ranker"


class Record(Frozen):
    """training.json. cpu_seconds: of everything, all workers, resumed parts included."""

    config: TrainConfig
    protocol: Protocol
    data_sha256: str
    epochs: list[dict[str, float]]
    best_epoch: int = Field(ge=0)
    cpu_seconds: float
    validation: dict[str, float]


def train(
    data: Path, out: Path, config: TrainConfig, scaling: Scaling, progress: Progress, resume: Path
) -> dict[str, float]:
    """Train counts, ranker and their combination; returns the final metrics.

    Checkpoints lie in resume; a run that was killed goes on after its last whole epoch, to the same result. out is
    written at the end, whole. Raises TrainingError, SourceError.
    """
    begun = time.process_time()
    snapshot = dataset.read(data)
    whole = Interactions.from_events(dataset.scan_events(data).collect())
    protocol = choose(config.protocol, snapshot.timed)
    parts = split(whole, protocol)
    config = config.affordable(len(parts.train.items))
    progress("train counts", 0.0, {})
    counts = Counts.fit(parts.train, config.counts)
    validation = Validation.draw(
        whole, parts.validation, filter_seen=not snapshot.repeats, limit=config.validation_cases, seed=config.seed
    )
    task = Task(parts.train, validation, config, fingerprint(config, snapshot, protocol))
    progress(RANKER, 0.0, {})
    beside = time.process_time() - begun
    state = distribution.fit(
        task, scaling, resume, lambda epoch, record: progress(RANKER, 0.95 * epoch / config.epochs, record)
    )
    begun = time.process_time()
    progress("combine ranker and counts", 0.95, {})
    model = loop.build(task).eval()
    model.load_state_dict(state.best)
    scorer = RankerScorer(model)
    combination = combine.fit(scorer, counts, validation)
    final = {
        f"validation_ndcg10_{s.name}": float(validation.ndcg(s).mean())
        for s in (counts, scorer, CombinedScorer(scorer, counts, combination))
    }
    record = Record(
        config=config,
        protocol=protocol,
        data_sha256=snapshot.sha256,
        epochs=state.history,
        best_epoch=state.best_epoch,
        cpu_seconds=state.cpu_seconds + beside + time.process_time() - begun,
        validation=final,
    )
    _write(out, state, scorer, counts, combination, record, filter_seen=not snapshot.repeats)
    metrics = {**final, "cpu_seconds": record.cpu_seconds, "best_epoch": float(state.best_epoch)}
    progress(RANKER, 1.0, metrics)
    return metrics


def fingerprint(config: TrainConfig, snapshot: DataSet, protocol: Protocol) -> str:
    text = json.dumps([config.model_dump(mode="json"), snapshot.sha256, protocol], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(
    out: Path,
    state: State,
    scorer: RankerScorer,
    counts: Counts,
    combination: Combination,
    record: Record,
    filter_seen: bool,
) -> None:
    if not state.best:
        raise TrainingError("no epoch was validated", "set validate_every to at most epochs")
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    checkpoint.save(draft, scorer.model, filter_seen)
    counts.save(draft / "counts.npz")
    combination.save(draft)
    checkpoint.write_atomically(draft / "training.json", (record.model_dump_json(indent=2) + "\n").encode())
    shutil.rmtree(out, ignore_errors=True)
    draft.rename(out)
