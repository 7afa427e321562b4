"""What the simulator writes is MovieLens 1M's format, obeys time, and is the same bytes for the same seed."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.workloads.movies import dataset
from slipway.workloads.movies.simulator import TINY, SimulatorConfig, simulate
from slipway.workloads.movies.simulator.people import DAY, START
from slipway.workloads.movies.simulator.world import GENRES, WEEK, World

LINES = {
    "ratings.dat": r"[1-9]\d*::[1-9]\d*::[1-5]::\d{10}",
    "clicks.dat": r"[1-9]\d*::[1-9]\d*::(10|[1-9])::\d{10}",
    "users.dat": r"[1-9]\d*::[MF]::(1|18|25|35|45|50|56)::(1?\d|20)::\d{5}",
    "movies.dat": rf"[1-9]\d*::[^:]+ \((19|20)\d\d\)::({'|'.join(GENRES)})(\|({'|'.join(GENRES)}))*",
}


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", LINES)
def test_every_line_has_the_format(tiny_world, name):
    text = (tiny_world.source / name).read_text(encoding="iso-8859-1")
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    assert [line for line in lines if not re.fullmatch(LINES[name], line)] == []
    if name in ("users.dat", "movies.dat"):
        wanted = tiny_world.config.users if name == "users.dat" else tiny_world.config.items
        assert [int(line.split("::")[0]) for line in lines] == list(range(1, wanted + 1))


def test_titles_are_distinct_and_not_ascii(tiny_world):
    content = (tiny_world.source / "movies.dat").read_bytes()
    titles = [line.split(b"::")[1] for line in content.splitlines()]
    assert len(set(titles)) == len(titles)
    with pytest.raises(UnicodeDecodeError):
        content.decode("utf-8")


def test_ingestion_keeps_every_row(tiny_world):
    snapshot = dataset.read(tiny_world.data)
    assert snapshot.source == "ml-1m"
    assert snapshot.quarantined == {}
    assert snapshot.events == len(tiny_world.table("ratings.dat"))
    assert snapshot.users == tiny_world.config.users
    assert (tiny_world.data / "oracle.json").read_bytes() == (tiny_world.source / "oracle.json").read_bytes()


def test_same_configuration_writes_the_same_bytes_and_another_seed_others(tmp_path, tiny_world):
    simulate(tmp_path / "again", tiny_world.config, lambda *_: None)
    assert hashes(tmp_path / "again") == hashes(tiny_world.source)
    simulate(tmp_path / "other", tiny_world.config.model_copy(update={"seed": 2}), lambda *_: None)
    other = hashes(tmp_path / "other")
    assert all(other[name] != digest for name, digest in hashes(tiny_world.source).items())


def test_a_larger_world_begins_with_the_same_people(tmp_path, tiny_world):
    simulate(tmp_path / "larger", tiny_world.config.model_copy(update={"users": 600}), lambda *_: None)
    for name in ("ratings.dat", "users.dat", "clicks.dat"):
        assert (tmp_path / "larger" / name).read_bytes().startswith((tiny_world.source / name).read_bytes())


def test_time_goes_forward_within_the_period(tiny_world):
    user, _, _, seconds = tiny_world.table("ratings.dat").T
    same = user[1:] == user[:-1]
    assert (np.diff(user) >= 0).all()
    assert (np.diff(seconds)[same] > 0).all()
    assert seconds.min() >= START
    assert seconds.max() < START + (tiny_world.config.days + 1) * DAY  # a last evening may end after midnight
    gaps = np.diff(seconds)[same]
    within = gaps < 3_600
    assert 30 < np.median(gaps[within]) < 300  # minutes within a session …
    assert gaps[~within].min() > 3_600  # … and at least a night between two
    hours = np.bincount((seconds // 3_600) % 24, minlength=24)
    assert hours[19:23].sum() > 5 * hours[3:8].sum()


def test_nobody_chooses_before_release_or_twice(tiny_world):
    user, film, _, seconds = tiny_world.table("ratings.dat").T
    world = World.build(tiny_world.config)
    release = START + world.release[world.shelf[film], world.place[film]] * WEEK * DAY
    assert (seconds >= release).all()
    assert (release > START).mean() > 0.05  # new films are chosen
    assert len(np.unique(np.column_stack([user, film]), axis=0)) == len(user)


def test_popularity_has_a_long_tail(tiny_world):
    films = np.sort(np.bincount(tiny_world.table("ratings.dat")[:, 1]))[::-1]
    assert films[:20].sum() > 5 * films[180:].sum()  # the first and the last tenth of 200


def test_ratings_follow_the_films_quality(tiny_world):
    _, film, rating, _ = tiny_world.table("ratings.dat").T
    world = World.build(tiny_world.config)
    assert np.corrcoef(world.quality[world.shelf[film], world.place[film]], rating)[0, 1] > 0.2
    assert 3.2 < rating.mean() < 3.9
    assert (np.bincount(rating, minlength=6)[1:] > 0).all()


def test_position_bias_moves_clicks_to_the_upper_slots(tmp_path):
    def first_to_last(bias: float) -> float:
        out = tmp_path / str(bias)
        simulate(out, TINY.model_copy(update={"clicks": True, "position_bias": bias}), lambda *_: None)
        slots = [int(line.split("::")[2]) for line in (out / "clicks.dat").read_text().splitlines()]
        clicks = np.bincount(slots, minlength=11)[1:]
        assert (clicks > 0).all()
        return float(clicks[0] / clicks[9])

    # Upper slots show hits, which many have seen: without bias they are clicked less than the lower ones.
    assert first_to_last(0.0) < 1
    assert first_to_last(1.0) > 2
    assert first_to_last(2.0) > 10


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(SourceError, match="already there"):
        simulate(tmp_path / "out", TINY, lambda *_: None)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", TINY, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot be written"):
        simulate(tmp_path / "file" / "out", TINY, lambda *_: None)


@pytest.mark.slow
def test_memory_does_not_grow_with_users(tmp_path):
    """A fresh process each: the peak of 100,000 users is that of 20,000."""

    def peak_mb(users: int) -> float:
        code = (
            "import resource, sys; from pathlib import Path\n"
            "from slipway.workloads.movies.simulator import SimulatorConfig, simulate\n"
            f"simulate(Path(sys.argv[1]), SimulatorConfig(users={users}, sessions=3, session_length=4),"
            " lambda *_: None)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, tmp_path / str(users)], check=True, capture_output=True, text=True
        )
        return float(out.stdout)

    assert peak_mb(100_000) < peak_mb(20_000) + 60


def test_shelves_must_be_fillable():
    with pytest.raises(ValueError, match="cannot fill"):
        SimulatorConfig(items=100, shelves=50)
