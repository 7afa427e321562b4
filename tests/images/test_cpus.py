import os
import subprocess
import sys

import pytest

from images import cpus


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))


@pytest.mark.parametrize(
    ("quota", "threads"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 4), ("800000 100000", 4), ("", 4)],
)
def test_threads_are_the_whole_cpus_of_the_quota(four, tmp_path, quota, threads):
    (tmp_path / "cpu.max").write_text(quota)
    assert cpus.limit(str(tmp_path)) == threads


@pytest.mark.parametrize(("quota", "threads"), [("300000", 3), ("-1", 4)])
def test_older_cgroups_say_it_in_two_files(four, tmp_path, quota, threads):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpus.limit(str(tmp_path)) == threads


def test_what_is_set_is_left_alone():
    said = subprocess.run(
        [sys.executable, "-c", "import images.cpus, os; print(os.environ['OMP_NUM_THREADS'])"],
        env={**os.environ, "OMP_NUM_THREADS": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "7"


def test_nobody_spins_while_they_wait():
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    asked = [sys.executable, "-c", "import images.cpus, os; print(os.environ['OMP_WAIT_POLICY'])"]
    assert subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout == "passive\n"
