"""The best trial as a profile: YAML for a person to review and commit. Knows text; knows no search and no Ray."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slipway import storage
from slipway.config import merge
from slipway.tuning.space import nest
from slipway.tuning.study import State, Study, Trial


def write(path: Path, study: Study, base: Mapping[str, Any]) -> None:
    """base: the profile that the study began from, as its YAML holds it. Raises TrainingError: see Study.best."""
    best = study.best()
    body = merge(merge(base, study.plan.overrides), nest(best.record.point))
    text = "".join(f"# {line}\n" for line in header(study, best))
    storage.write_atomically(path, text + yaml.safe_dump(body, sort_keys=False))


def header(study: Study, best: Trial) -> list[str]:
    """How it was found, and that it was found on validation data."""
    plan, trials = study.plan, study.trials()
    counts = {state: sum(trial.record.state is state for trial in trials) for state in State}
    told = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    spent = sum(trial.record.cpu_seconds for trial in trials)
    first = trials[0]
    own = plan.space.metric
    lines = [
        f"Found by slipway tune on {datetime.now(UTC).date().isoformat()}: review before you commit it.",
        f"study     {plan.name}: profile {plan.profile} on {plan.data}, {plan.search}, seed {plan.seed}",
        f"trials    {len(trials)} ({told}), {spent:,.0f} CPU-seconds",
        f"best      trial {best.record.number}: {own} {best.best:.4f} after {best.reports[-1].epoch} epochs",
    ]
    if first.record.point != best.record.point and first.best is not None and _is_default(study, first):
        lines.append(f"default   trial 1: {own} {first.best:.4f}")
    lines.append(f"commit    {plan.commit}")
    lines.append("The metric is the best of many on the same validation cases, and so a little flattering.")
    return lines


def _is_default(study: Study, trial: Trial) -> bool:
    from slipway import workload

    plan = study.plan
    return trial.record.point == plan.space.default(workload.load(plan.workload).config(plan.profile, plan.overrides))
