"""What a reviewer of a promotion reads: the pull request's body, as Markdown. Knows formatting; decides nothing."""

from collections.abc import Iterable

from cluster.promotion import NOTHING, Candidate, Environment
from slipway.evaluation.checks import Outcome
from slipway.evaluation.results import Evaluation, Row

MAX_BODY = 65_000  # characters; GitHub takes 65,536


def title(candidate: Candidate, to: Environment) -> str:
    return f"Promote {candidate.manifest.workload} {candidate.manifest.version} to {to}"


def body(candidate: Candidate, to: Environment, before: str, current: Candidate | None) -> str:
    """before: the version that `to` serves now, NOTHING at first; current: what is known of it, None when nothing."""
    evaluation, manifest = candidate.evaluation, candidate.manifest
    come = str(to.before) if to.before else f"the registry (version {candidate.registered.number})"
    parts = [
        f"`{manifest.workload}` in **{to}**: `{before if before != NOTHING else 'nothing'}` → `{manifest.version}`, "
        f"from {come}.",
        f"**The gate:** {_text(evaluation.verdict.reason)}",
        "## Quality",
        f"{evaluation.cases:,} cases of {evaluation.users:,} users, {_text(evaluation.protocol)}; "
        f"the gate judges `{evaluation.primary}`. 95 % intervals over users.",
        _quality(evaluation),
        _compared(evaluation, current, to),
        "## Checks",
        *_checks(evaluation),
        "## Slices",
        _slices(evaluation),
        "## Where it comes from",
        _lineage(candidate),
        "## Merge, and back",
        f"Merging changes one line, `manifests/apps/{to}/package.yaml`; Argo CD brings it to the cluster. "
        + (
            "In production the package is served when `slipway rollout status` says promoted. "
            if to is Environment.PRODUCTION
            else ""
        )
        + "To go back, revert the merge commit: the package before is still in the store.",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text if len(text) <= MAX_BODY else text[:MAX_BODY].rpartition("\n")[0] + "\n\n… cut; the report has all.\n"


def _quality(evaluation: Evaluation) -> str:
    metrics = list(evaluation.rows[0].intervals)
    ending = f"_{evaluation.primary.split('_', 1)[1]}" if "_" in evaluation.primary else ""
    head = ["model", *(metric.removesuffix(ending) for metric in metrics), *evaluation.rows[0].figures]

    def cells(row: Row) -> Iterable[str]:
        name = _text(row.model)
        yield f"**{name}** (served)" if row.model == evaluation.served else name
        for metric in metrics:
            found = row.intervals[metric]
            yield f"{found.value:.4f} ({found.low:.4f}–{found.high:.4f})"
        yield from (f"{value:.3f}" for value in row.figures.values())

    return _table(head, [list(cells(row)) for row in evaluation.rows])


def _compared(evaluation: Evaluation, current: Candidate | None, to: Environment) -> str:
    if current is None:
        return f"What {to} serves now has no evaluation in the registry, so there is nothing to compare with."
    old = current.evaluation
    same = (old.data_sha256, old.protocol, old.primary) == (
        evaluation.data_sha256,
        evaluation.protocol,
        evaluation.primary,
    )
    new_value, old_value = (e.headline()[e.served.replace(" ", "_")] for e in (evaluation, old))
    sure = "on the same cases" if same else "**on other data: only the canary can compare them**"
    return (
        f"Against what {to} serves now (`{current.manifest.version}`): `{evaluation.primary}` "
        f"{new_value:.4f} instead of {old_value:.4f} ({new_value - old_value:+.4f}), {sure}."
    )


def _checks(evaluation: Evaluation) -> Iterable[str]:
    count = {outcome: sum(c.outcome is outcome for c in evaluation.checks) for outcome in Outcome}
    yield ", ".join(f"{number} {str(outcome).replace('_', ' ')}" for outcome, number in count.items()) + "."
    odd = [c for c in evaluation.checks if c.outcome is not Outcome.PASSED]
    if odd:
        rows = [
            [
                _text(c.name),
                str(c.outcome).replace("_", " "),
                "blocks" if c.blocking else "warns",
                "–" if c.value is None else f"{c.value:.4g}",
                _text(c.bounds),
                _text(c.reason or c.why),
            ]
            for c in odd[:40]
        ]
        yield _table(["check", "outcome", "", "value", "asked", "why"], rows)


def _slices(evaluation: Evaluation) -> str:
    """Of each slicing the part with the lowest value of its first figure."""
    rows = []
    for slicing in evaluation.slicings:
        parts = [p for p in slicing.parts if p.cases and p.values]
        if not parts:
            continue
        figure = next(iter(parts[0].values))
        worst = min(parts, key=lambda p: p.values[figure].value if figure in p.values else float("inf"))
        found = worst.values.get(figure)
        if found:
            rows.append(
                [_text(slicing.title), _text(worst.label), f"{worst.cases:,}", _text(figure), f"{found.value:.4f}"]
            )
    return _table(["slices by", "weakest", "cases", "figure", "value"], rows) if rows else "None were measured."


def _lineage(candidate: Candidate) -> str:
    manifest = candidate.manifest
    rows = [
        ["package", f"`{candidate.registered.uri}`"],
        ["created", f"{manifest.created:%Y-%m-%d %H:%M} UTC"],
        ["git commit", manifest.git_commit],
        ["pipeline run", f"`{_text(manifest.pipeline_run)}`"],
        [
            "data",
            f"`{_text(manifest.data.uri)}`, {manifest.data.events:,} events, SHA-256 `{manifest.data.sha256[:16]}…`",
        ],
        [
            "evaluation report",
            f"[MLflow run]({candidate.link})" if candidate.link else "evaluation/report.html of its run",
        ],
    ]
    return _table(["", ""], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """As it is read: no table's bar, no HTML, no mention that would call somebody, no second line."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").replace("@", "@\u200b").split())
