"""A step ends with one clear line, whatever happened inside it."""

import errno
import json

import pytest

from components.report import PREFIX, step
from slipway.errors import SourceError


def events(capsys):
    out = capsys.readouterr().out
    return [json.loads(line.removeprefix(PREFIX)) for line in out.splitlines() if line.startswith(PREFIX)], out


def test_start_progress_done(capsys):
    with step("train") as progress:
        progress("epoch 1", 0.5, {"loss": 2.0})
    seen, _ = events(capsys)
    assert [e["event"] for e in seen] == ["start", "progress", "done"]
    assert seen[1] == {"event": "progress", "step": "train", "what": "epoch 1", "share": 0.5, "metrics": {"loss": 2.0}}


def test_an_error_on_purpose_is_a_message_and_a_remedy(capsys):
    with pytest.raises(SystemExit) as ended, step("ingest"):
        raise SourceError("no files", "bring some")
    seen, out = events(capsys)
    assert ended.value.code == 1
    assert seen[-1] == {"event": "error", "step": "ingest", "message": "no files", "remedy": "bring some"}
    assert "Traceback" not in out


def test_a_bug_keeps_its_traceback_in_the_log(capsys):
    with pytest.raises(SystemExit) as ended, step("ingest"):
        {}["x"]
    seen, out = events(capsys)
    assert ended.value.code == 1
    assert "Traceback" in out
    assert "bug" in seen[-1]["remedy"]


def test_a_full_disk_is_no_bug(capsys):
    with pytest.raises(SystemExit), step("ingest"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "space" in events(capsys)[0][-1]["remedy"]


def test_an_interrupt_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as ended, step("train"):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "skipped" in events(capsys)[0][-1]["remedy"]
