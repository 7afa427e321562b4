"""kfp's lines and our steps' events, as one state per step."""

import io
import json

from pipelines.runners.monitor import Monitor


def event(**fields):
    return f"    ::slipway:: {json.dumps(fields)}\n"


def test_a_run_is_followed_from_its_output():
    log, seen = io.StringIO(), []
    monitor = Monitor(log, lambda step: seen.append((step.name, step.state, step.share)))
    text = (
        "12:00:00.1 - INFO - Task ingest cache hit (key=abc); skipping execution.\n"
        "12:00:00.1 - INFO - Executing task \x1b[96m'train'\x1b[0m\n"
        + event(event="start", step="train")
        + event(event="progress", step="train", what="epoch 1", share=0.5, metrics={"loss": 2.0})
        + event(event="done", step="train")
        + "12:00:01.1 - INFO - Task \x1b[96m'train'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m\n"
        "12:00:01.1 - INFO - Executing task \x1b[96m'evaluate'\x1b[0m\n"
        + event(event="start", step="evaluate")
        + event(event="error", step="evaluate", message="no users", remedy="bring some")
        + "12:00:02.1 - ERROR - Task \x1b[96m'evaluate'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m\n"
    )
    for piece in (text[i : i + 7] for i in range(0, len(text), 7)):  # lines arrive in pieces
        monitor.write(piece)
    assert {n: s.state for n, s in monitor.steps.items()} == {"ingest": "cached", "train": "done", "evaluate": "failed"}
    assert ("train", "running", 0.5) in seen
    assert monitor.error["message"] == "no users"
    assert monitor.steps["train"].seconds >= monitor.steps["train"].overhead >= 0
    assert log.getvalue() == text
