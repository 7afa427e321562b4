"""The training step: a data set in, a folder of trained models out. Knows the order of the work and the files.

    slipway run                       # on a laptop: in the step's own process
    slipway run --runner cluster      # on Ray workers, by the profile's scaling

<out>/ranker.json, ranker.npz   the transformer of the best validation
<out>/counts.npz                the counting baseline
<out>/combine.json              weight and epsilon of their combination, chosen on validation
<out>/reranker.*, item_*, counts_*  the re-ranker and what its features need
<out>/training.json             how it came to be (Record)
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
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
from slipway.workloads.movies.ranker import checkpoint, distribution, loop, shards
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.loop import Task
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.rerank import training as reranking
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.training import Fitted
from slipway.workloads.movies.splits import Protocol, choose, split

RANKER = "train ranker"


UNDECIDING = {"max_failures", "checkpoint_every", "counts", "rerank"}  # the ranker comes out the same


class Record(Frozen):
    """training.json. cpu_seconds: of everything, all workers, resumed parts included; computed: by what.

    tracking_seconds: how long reporting progress held this training up, of wall_seconds; this process's part only.
    """

    config: TrainConfig
    protocol: Protocol
    data_sha256: str
    epochs: list[dict[str, float]]
    best_epoch: int = Field(ge=0)
    cpu_seconds: float
    wall_seconds: float
    tracking_seconds: float
    tracking_share: float
    computed: dict[str, str]
    validation: dict[str, float]


def train(
    data: Path, out: Path, config: TrainConfig, scaling: Scaling, progress: Progress, checkpoints: str
) -> dict[str, float]:
    """Train counts, ranker and their combination; returns the final metrics.

    Checkpoints and the training data as shards lie below checkpoints, a URI; a run that was killed goes on after its
    last checkpoint, to the same result. out is written at the end, whole. Raises TrainingError, SourceError,
    StorageError.
    """
    begun, clock = time.process_time(), time.perf_counter()
    progress = told = _Timed(progress)
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
    if not len(validation.cases):
        raise TrainingError("nothing is left to validate on", "bring more users, or longer histories")
    source = hashlib.sha256(f"{snapshot.sha256} {protocol} {config.shard_events}".encode()).hexdigest()[:12]
    written = shards.write(parts.train, f"{checkpoints}/data-{source}", config.shard_events, scaling.s3_endpoint_url)
    task = Task(written, validation.compact(), config, fingerprint(config, snapshot, protocol))
    progress(RANKER, 0.0, {})
    beside = time.process_time() - begun
    state = distribution.fit(
        task, scaling, checkpoints, lambda epoch, record: progress(RANKER, 0.95 * epoch / config.epochs, record)
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
    items = ItemTable.build(data / "items.parquet", whole, parts.train)
    vectors = scorer.model.item.weight.detach().cpu().float().numpy()
    unseen = Validation(whole, parts.validation, filter_seen=not snapshot.repeats)
    reranked = reranking.fit(
        scorer, counts, combination, vectors, items, parts.train, unseen, config.rerank, config.seed, told
    )
    final |= reranked.metrics
    wall = time.perf_counter() - clock
    record = Record(
        config=config,
        protocol=protocol,
        data_sha256=snapshot.sha256,
        epochs=state.history,
        best_epoch=state.best_epoch,
        cpu_seconds=state.cpu_seconds + beside + time.process_time() - begun,
        wall_seconds=wall,
        tracking_seconds=told.seconds,
        tracking_share=told.seconds / wall,
        computed=loop.computed(task, scaling.use_gpu),
        validation=final,
    )
    _write(out, state, scorer, counts, combination, reranked, record, filter_seen=not snapshot.repeats)
    metrics = {**final, "cpu_seconds": record.cpu_seconds, "best_epoch": float(state.best_epoch)}
    progress(RANKER, 1.0, metrics)
    return metrics


class _Timed:
    """A progress callback that knows how long it took."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds = 0.0

    def __call__(self, what: str, share: float, metrics: Mapping[str, float]) -> None:
        begun = time.perf_counter()
        self.progress(what, share, metrics)
        self.seconds += time.perf_counter() - begun


def fingerprint(config: TrainConfig, snapshot: DataSet, protocol: Protocol) -> str:
    """Of what decides the ranker."""
    text = json.dumps([config.model_dump(mode="json", exclude=UNDECIDING), snapshot.sha256, protocol], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write(
    out: Path,
    state: State,
    scorer: RankerScorer,
    counts: Counts,
    combination: Combination,
    reranked: Fitted,
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
    reranked.save(draft)
    checkpoint.write_atomically(draft / "training.json", (record.model_dump_json(indent=2) + "\n").encode())
    shutil.rmtree(out, ignore_errors=True)
    draft.rename(out)
