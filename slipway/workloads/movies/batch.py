"""Recommendations for many users at once: package and user ids → Parquet parts. Knows parts and who is asked; knows
neither the command line nor a registry.

A part is whole or absent: it is written in one go, after its last user. What a killed run wrote is therefore not done
again; batch.json, written first, says of which package, users and k the parts are, and refuses to mix them with others.
Each user is asked alone, as the endpoint is mostly asked: a graph in int8 scales what flows through it over the whole
request, so its answers depend, in the third digit, on who else is in it.
"""

import hashlib
import io
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import ValidationError

from slipway import storage
from slipway.errors import ObjectNotFoundError, PackageError, PipelineError, SourceError, StorageError
from slipway.package import Frozen, Package, Tensors
from slipway.workloads.movies.interactions import IntArray

USER = "user"
JOB, DONE = "batch.json", "_SUCCESS"
PART_USERS = 2000  # a part is held in memory once per worker: about 3 MB at k = 10
ALONE = 10_000  # users up to which starting Ray takes longer than it saves
SCHEMA = pl.Schema(
    {
        "user": pl.Int64,
        "rank": pl.Int32,
        "item": pl.Int64,
        "score": pl.Float32,
        "source": pl.String,
        "package_version": pl.String,
    }
)

Told = Callable[[int, int], None]
"""(users done, users in all)"""


class Job(Frozen):
    """batch.json: users is the hash of their ids."""

    format: Literal[1] = 1
    package_version: str
    k: int
    users: str
    user_count: int
    part_users: int

    @property
    def parts(self) -> int:
        return -(-self.user_count // self.part_users)


@dataclass(frozen=True)
class Report:
    """What one run did: users that it answered, users that were answered before, and the seconds that it took."""

    answered: int
    skipped: int
    seconds: float


def read_users(package: Package, file: Path | None) -> IntArray:
    """(n,) ids, each once, ascending: of the package's own histories, or of a Parquet or CSV file's column `user`.

    Raises SourceError naming what is wrong with the file.
    """
    if file is None:
        return np.asarray(np.load(package.path("users.npy"), allow_pickle=False), dtype=np.int64)
    if file.suffix not in {".parquet", ".csv"}:
        raise SourceError(f"{file} is neither .parquet nor .csv", "bring the ids as one of them, in a column `user`")
    try:
        scanned = pl.scan_parquet(file) if file.suffix == ".parquet" else pl.scan_csv(file)
        columns = scanned.collect_schema().names()
        if USER not in columns:
            raise SourceError(
                f"{file} has no column {USER!r}; it has: {', '.join(columns) or 'none'}", "rename the column of ids"
            )
        ids = scanned.select(USER).collect()[USER]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{file} cannot be read: {error}", "bring a Parquet or CSV file of user ids") from error
    if not len(ids):
        raise SourceError(f"{file} names no user", "bring at least one user id")
    if not ids.dtype.is_integer():
        raise SourceError(f"column {USER!r} of {file} is {ids.dtype}", "bring whole numbers")
    if ids.null_count() or (ids < 0).any():
        raise SourceError(
            f"column {USER!r} of {file} holds {ids.null_count()} nulls and {int((ids < 0).sum())} negative ids",
            "bring ids of 0 or more; one that nobody has is an unknown user",
        )
    found: IntArray = ids.cast(pl.Int64).unique().sort().to_numpy()
    return found


@dataclass
class Answerer:
    """Answers parts; opens the package when the first one comes, once per process."""

    package: Path
    users: IntArray
    job: Job
    out: str
    s3_endpoint_url: str | None = None
    _predictor: Any = field(default=None, repr=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """{"part": numbers} → the same with how many users each has; what map_batches calls."""
        counts = [self.answer(int(part)) for part in batch["part"]]
        return {"part": batch["part"], "users": np.array(counts)}

    def answer(self, part: int) -> int:
        """Write part number `part`; returns how many users it has."""
        users = self.users[part * self.job.part_users : (part + 1) * self.job.part_users]
        written = io.BytesIO()
        self.table(users).write_parquet(written)
        storage.store(self.out, self.s3_endpoint_url).write(part_name(part), written.getvalue())
        return len(users)

    def table(self, users: IntArray) -> pl.DataFrame:
        """SCHEMA: k rows per user, fewer where the catalogue has no more."""
        if self._predictor is None:
            from slipway.workloads.movies.predictor import MoviesPredictor

            self._predictor = MoviesPredictor.open(self.package)
        k = np.array([self.job.k], dtype=np.int64)
        answers = [self._ask(users[i : i + 1], k) for i in range(len(users))]
        item, score, source = (
            np.concatenate([answer[name] for answer in answers]) for name in ("item_id", "score", "source")
        )
        real = item >= 0
        return pl.DataFrame(
            {
                "user": np.broadcast_to(users[:, None], item.shape)[real],
                "rank": np.broadcast_to(np.arange(1, item.shape[1] + 1), item.shape)[real],
                "item": item[real],
                "score": score[real],
                "source": source[real].astype(str),
                "package_version": [self.job.package_version] * int(real.sum()),
            },
            schema=SCHEMA,
        )

    def _ask(self, user: IntArray, k: IntArray) -> Tensors:
        """A person who waits gets what is left when a model fails; a table that nobody reads yet does not."""
        answer = self._predictor.predict({"user_id": user, "k": k})
        if "lost" in answer.notes:
            raise PackageError(
                f"package {self.job.package_version} cannot answer user {user[0]} by all its models: "
                f"{answer.notes['lost']}",
                "see the log above; the parts that are there are whole",
            )
        outputs: Tensors = answer.outputs
        return outputs


def part_name(part: int) -> str:
    return f"part-{part:05d}.parquet"


def recommend(
    package: Package,
    users: IntArray,
    out: str,
    k: int,
    told: Told,
    workers: int | None = None,
    part_users: int = PART_USERS,
    s3_endpoint_url: str | None = None,
) -> Report:
    """Write the parts that are not there yet below the URI out, and _SUCCESS after the last one.

    workers: processes of Ray; 0 answers in this one; None chooses by the number of users. Raises StorageError where
    out holds parts of something else.
    """
    begun = time.perf_counter()
    job = Job(
        package_version=package.version,
        k=k,
        users=hashlib.sha256(np.ascontiguousarray(users).tobytes()).hexdigest(),
        user_count=len(users),
        part_users=part_users,
    )
    objects = storage.store(out, s3_endpoint_url)
    _claim(objects, job, out)
    there = set(objects.keys("part-"))
    missing = [part for part in range(job.parts) if part_name(part) not in there]
    sizes = [min(part_users, len(users) - part * part_users) for part in missing]
    skipped = len(users) - sum(sizes)
    told(skipped, len(users))
    if workers is None:
        workers = 0 if sum(sizes) <= ALONE else os.cpu_count() or 1
    answerer = Answerer(package.folder, users, job, out, s3_endpoint_url)
    done = skipped
    with _answered(answerer, missing, min(workers, len(missing))) as parts:
        for count in parts:
            done += count
            told(done, len(users))
    objects.write(DONE, b"")
    return Report(len(users) - skipped, skipped, time.perf_counter() - begun)


@contextmanager
def _answered(answerer: Answerer, parts: Sequence[int], workers: int) -> Iterator[Iterator[int]]:
    """The number of users of each part, as it is written."""
    if workers == 0:
        yield (answerer.answer(part) for part in parts)
        return
    from slipway.cluster import cluster  # before anything of Ray

    with cluster(workers):
        yield _by_ray(answerer, parts, workers)


def _by_ray(answerer: Answerer, parts: Sequence[int], workers: int) -> Iterator[int]:
    """One part per block: Ray Data keeps as many in flight as there are actors.

    Raises PipelineError when a worker dies or fails; the parts that it wrote stay.
    """
    import ray
    import ray.data
    import ray.data.exceptions

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its own bars and remarks; ours tells of users
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    pending = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray 2.60 wants max_restarts by another name, and has none
        found = pending.map_batches(
            Answerer,
            fn_constructor_args=(
                answerer.package,
                answerer.users,
                answerer.job,
                answerer.out,
                answerer.s3_endpoint_url,
            ),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            max_restarts=0,  # the next run takes what a dead one left, and a package that kills workers kills few
        )
    try:
        for row in found.iter_rows():
            yield int(row["users"])
    except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        raise PipelineError(
            f"a worker failed: {cause}", "run the same command again: the parts that are there are not done again"
        ) from error


def _claim(objects: storage.ObjectStore, job: Job, out: str) -> None:
    """Write batch.json, or see that the one that is there is this very job's."""
    try:
        earlier = Job.model_validate_json(objects.read(JOB))
    except ObjectNotFoundError:
        if next(iter(objects.keys("part-")), None) is not None:
            raise StorageError(f"{out} holds parts, but no {JOB}", "name an empty folder") from None
        objects.write(JOB, (job.model_dump_json(indent=2) + "\n").encode())
        return
    except ValidationError as error:
        raise StorageError(f"{out}/{JOB} cannot be used: {error}", "name an empty folder") from error
    differing = [name for name in Job.model_fields if getattr(earlier, name) != getattr(job, name)]
    if differing:
        raise StorageError(
            f"{out} holds recommendations of another job: it differs in {', '.join(differing)}",
            "name an empty folder, or give the same package, users and k to go on with what is there",
        )
