"""A simulated world as files in MovieLens 1M's format, one block of users at a time. Knows no choice model.

ratings.dat  user::film::rating::seconds         movies.dat  film::Title (Year)::Genre|Genre, ISO-8859-1
users.dat    user::gender::age::occupation::zip  clicks.dat  user::film::slot::seconds, where config.clicks
oracle.json  the configuration, from which all of it follows
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.errors import SourceError
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies.simulator import titles
from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.people import DAY, START
from slipway.workloads.movies.simulator.rollout import Rollout, blocks, live
from slipway.workloads.movies.simulator.streams import BLOCK, Stream, generator
from slipway.workloads.movies.simulator.world import GENRES, WEEK, Ints, World

ORACLE = "oracle.json"


class OracleFile(Frozen):
    """oracle.json: everything that the simulated world follows from."""

    format: Literal[1] = 1
    config: SimulatorConfig


def simulate(out: Path, config: SimulatorConfig, progress: Progress) -> None:
    """Write the files into out, which must not exist or be empty; they appear together, when all is written.

    Equal configurations write equal bytes; memory is bounded by one block of users. Raises SourceError.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SourceError(f"{out} is already there", "choose a new folder for simulated data, or remove that one")
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        _write(draft, config, progress)
        draft.rename(out)
    except OSError as error:
        raise SourceError(f"{out} cannot be written: {error}", "make room, or choose another folder") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(folder: Path, config: SimulatorConfig, progress: Progress) -> None:
    world = World.build(config)
    (folder / "movies.dat").write_text(_movies(world, config), encoding="iso-8859-1", newline="\n")
    rows, total = 0, blocks(config)
    with (folder / "ratings.dat").open("wb") as ratings, (folder / "users.dat").open("wb") as users:
        clicks = (folder / "clicks.dat").open("wb") if config.clicks else None
        try:
            for block in range(total):
                lived = live(world, config, block)
                ratings.write(_events(lived, lived.rating))
                users.write(_users(lived, block))
                if clicks is not None and lived.slot is not None:
                    clicks.write(_events(lived, lived.slot))
                rows += len(lived.user)
                progress("simulate", (block + 1) / total, {"users": float(lived.user[-1]), "ratings": float(rows)})
        finally:
            if clicks is not None:
                clicks.close()
    (folder / ORACLE).write_text(OracleFile(config=config).model_dump_json(indent=2) + "\n")


def _lines(*columns: npt.NDArray[Any] | pl.Series) -> bytes:
    joined = pl.select(pl.concat_str([pl.Series(str(n), c) for n, c in enumerate(columns)], separator="::"))
    return joined.write_csv(include_header=False, quote_style="never").encode()


def _events(lived: Rollout, third: Ints) -> bytes:
    return _lines(lived.user, lived.film, third, lived.times)


def _users(lived: Rollout, block: int) -> bytes:
    people = lived.people
    ids = np.arange(people.count) + block * BLOCK + 1
    zips = pl.Series("zip", people.zip_code).cast(pl.String).str.zfill(5)
    return _lines(ids, people.gender, people.age, people.occupation, zips)


def _movies(world: World, config: SimulatorConfig) -> str:
    return "".join(f"{film}::{title}::{'|'.join(genres)}\n" for film, title, genres, _ in catalogue(world, config))


def catalogue(world: World, config: SimulatorConfig) -> list[tuple[int, str, list[str], int]]:
    """(film, title with its year, genres, year) of every film of the world."""
    rng = generator(config.seed, Stream.TITLES)
    genres = [[GENRES[g] for g in world.genres[i]] for i in range(1, config.items + 1)]
    names = titles.invent(rng, [g[0] for g in genres])
    opening = datetime.fromtimestamp(START, UTC).year
    old = opening - 1 - np.minimum(rng.geometric(0.06, config.items), 75)
    weeks = world.release[world.shelf[1:], world.place[1:]]
    rows = []
    for film, (name, kinds, week, past) in enumerate(zip(names, genres, weeks, old, strict=True), start=1):
        year = datetime.fromtimestamp(START + int(week) * WEEK * DAY, UTC).year if week else int(past)
        rows.append((film, f"{name} ({year})", kinds, year))
    return rows
