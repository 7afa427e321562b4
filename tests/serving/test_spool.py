"""What is on disk is there once, in order, whole, and within its bound."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.spool import SEGMENT, FullError, Spool
from slipway.errors import ConfigError

ROOT = Path(__file__).parents[2]


def lines(*numbers):
    return [("exposures", b'{"n":%d}' % number) for number in numbers]


def taken(spool, most=1000):
    found = []
    while some := spool.peek(most):
        found += some
        spool.done(len(some))
    return found


def test_lines_come_back_in_order_and_their_file_goes(tmp_path):
    spool = Spool(tmp_path, 4 * SEGMENT)
    spool.append(lines(1, 2))
    spool.append([("feedback", b"{}")])
    assert spool.peek(2) == spool.peek(2) == lines(1, 2)
    spool.done(1)
    spool.append(lines(4))  # while an older segment is read
    assert taken(spool, 1) == [*lines(2), ("feedback", b"{}"), *lines(4)]
    assert list(tmp_path.iterdir()) == []


def test_it_never_grows_beyond_its_bound_and_keeps_what_it_has(tmp_path):
    spool = Spool(tmp_path, 2 * SEGMENT)
    large = [("exposures", b'{"x":"%s"}' % (b"x" * 60_000))]
    for _ in range(34):
        spool.append(large)
    with pytest.raises(FullError, match="SLIPWAY_CAPTURE_SPOOL_BYTES"):
        spool.append(large)
    assert 2 * SEGMENT * 0.9 < spool.bytes <= 2 * SEGMENT
    assert len(taken(spool, 7)) == 34
    spool.append(large)


def test_another_process_leaves_alone_what_is_held_and_takes_it_when_its_holder_is_killed(tmp_path):
    write = f"""
import sys, time
from pathlib import Path
from serving.spool import Spool
spool = Spool(Path({str(tmp_path)!r}), 1 << 24)
spool.append([("exposures", b'{{"n":1}}')])
print("kept", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", write], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert other.stdout.readline() == b"kept\n"
    spool = Spool(tmp_path, 4 * SEGMENT)
    assert spool.peek(10) == []
    other.kill()
    other.wait()
    spool._looked -= 60  # it looks once a second
    assert taken(spool) == lines(1)


def test_what_is_no_line_is_set_aside(tmp_path):
    spool = Spool(tmp_path, 4 * SEGMENT)
    spool.append(lines(1, 2))
    spool.close()
    segment = next(tmp_path.glob("*.segment"))
    segment.write_bytes(b"\x00\xff\n" + segment.read_bytes() + b'exposures\t{"n":3')
    assert taken(Spool(tmp_path, 4 * SEGMENT)) == lines(1, 2)
    assert next((tmp_path / "torn").iterdir()).read_bytes() == b'\x00\xff\nexposures\t{"n":3'


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        Spool(tmp_path / "file" / "spool", SEGMENT)


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path, monkeypatch):
    spool = Spool(tmp_path, 4 * SEGMENT)
    spool.append(lines(1))
    write = os.write

    def full(handle, content):
        write(handle, bytes(content)[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serving.spool.os.write", full)
    with pytest.raises(OSError, match="No space"):
        spool.append(lines(2))
    monkeypatch.undo()
    spool.append(lines(3))
    assert taken(spool) == lines(1, 3)
