"""Promotion by pull request: a real registry (MLflow on SQLite) and real git; `gh` is a contract fake.

The fake stands for GitHub's command line: `gh pr list … --jq .[0].url` prints the open one's URL or nothing, `gh pr
create` prints the new one's.
"""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cluster import promotion, promotionpage
from cluster.promotion import APPS, NOTHING, Environment
from slipway.errors import ConfigError, ManifestError, SameError, TrackingError
from slipway.evaluation.results import Evaluation
from slipway.package import Manifest, Signature, Snapshot
from slipway.tracking import Tracker

REPOSITORY = Path(__file__).resolve().parents[2]
OLD, NEW, BAD = "1" * 12, "2" * 12, "3" * 12
STORE = "s3://slipway-packages/slipway/packages/movies"
GH = """#!/bin/sh
case "$1 $2" in
  "pr list") cat "$FAKE_GH/open" 2>/dev/null; exit 0 ;;
  "pr create")
    for word in "$@"; do echo "$word"; done > "$FAKE_GH/arguments"
    while [ "$1" != --body-file ]; do shift; done
    cp "$2" "$FAKE_GH/body.md"
    echo "https://github.example/o/r/pull/7" | tee "$FAKE_GH/open" ;;
  *) echo "unknown command $1 $2" >&2; exit 1 ;;
esac
"""


def interval(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def evaluation(value=0.17, admitted=True, checks=(), data="d" * 64):
    rows = [
        {
            "model": model,
            "intervals": {"ndcg10_full": interval(figure), "hr10_full": interval(2 * figure)},
            "figures": {"coverage": 0.5},
            "recall": [0.1],
            "finite": True,
            "cpu_seconds": 1.0,
        }
        for model, figure in (("cascade", value), ("skip counts", 0.15))
    ]
    check = {"kind": "slice", "champion": None, "bounds": "≥ 0.1", "why": "new users count", "cases": 10}
    document = {
        "title": "movies",
        "data_sha256": data,
        "facts": {},
        "lineage": {},
        "configuration": "",
        "protocol": "full ranking",
        "filtered": True,
        "k": 10,
        "primary": "ndcg10_full",
        "served": "cascade",
        "bar": "skip counts",
        "users": 100,
        "cases": 100,
        "rows": rows,
        "tables": [],
        "stages": [],
        "slicings": [
            {
                "key": "history",
                "title": "history",
                "parts": [
                    {"key": k, "label": k, "cases": 10, "users": 5, "values": {"ndcg10": {"value": v}}}
                    for k, v in (("short | new", 0.05), ("long", 0.3))
                ],
            }
        ],
        "fairness": [],
        "reliability": [],
        "measurements": [],
        "checks": [check | dict(c) for c in checks],
        "champion": None,
        "verdict": {
            "admitted": admitted,
            "reason": "admitted: better" if admitted else "refused: worse",
            "metrics": {},
        },
        "training": {},
    }
    return Evaluation.model_validate(document)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """Three registered versions: OLD, NEW (the challenger), and BAD, which the gate refused."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    tracker = Tracker(uri, "movies")
    failed = {"name": "cold_users", "outcome": "failed", "blocking": True, "value": 0.01, "reason": "0.01 is <less>"}
    warned = failed | {"name": "repeats", "blocking": False}
    found = {OLD: evaluation(0.16), BAD: evaluation(0.1, False, [failed]), NEW: evaluation(0.17, checks=[warned])}
    for package, result in found.items():
        run = tracker.start(package, {})
        files = folder / package
        files.mkdir()
        (files / "evaluation.json").write_text(result.model_dump_json())
        run.log_files(files, "evaluation")
        manifest = Manifest(
            workload="movies",
            version=package,
            created=datetime(2026, 11, 22, tzinfo=UTC),
            git_commit="c" * 40,
            pipeline_run="run-of-@everyone",
            data=Snapshot(uri="s3://lake/processed/movies/events@3", sha256="d" * 64, events=1000),
            signature=Signature(inputs=(), outputs=()),
            metrics={},
            files={},
        )
        (files / "package.json").write_text(manifest.model_dump_json())
        run.log_files(files / "package.json", "package")
        tracker.register("movies", f"{STORE}/{package}", package, run.id, {})
    return uri


@pytest.fixture
def checkout(tmp_path):
    """A clone whose environments serve nothing, and the bare repository that it came from."""

    def git(*words, folder):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)

    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(origin), folder=tmp_path)
    git("clone", "--quiet", str(origin), str(clone), folder=tmp_path)
    for environment in Environment:
        (clone / APPS / environment).mkdir(parents=True)
        shutil.copy(REPOSITORY / APPS / environment / "package.yaml", clone / APPS / environment)
    git("config", "user.name", "tests", folder=clone)
    git("config", "user.email", "tests@example.com", folder=clone)
    git("checkout", "--quiet", "-B", "main", folder=clone)
    git("add", ".", folder=clone)
    git("commit", "--quiet", "-m", "begin", folder=clone)
    git("push", "--quiet", "origin", "main", folder=clone)
    return clone


@pytest.fixture
def slipway(tracking, tmp_path, monkeypatch):
    from slipway.settings import settings

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GH", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_TRACKING_URI", tracking)
    settings.cache_clear()
    yield lambda *words: CliRunner().invoke(app, ["promotion", *words], catch_exceptions=True)
    settings.cache_clear()


def test_the_files_that_promotion_changes_are_what_it_expects():
    for environment in Environment:
        assert promotion.served(REPOSITORY, environment).startswith("s3://")


def test_the_pull_request_changes_one_line_and_holds_the_evaluation(slipway, checkout, tmp_path):
    (checkout / "unsaved.txt").write_text("what somebody is writing")
    done = slipway("open", "--to", "staging", "--root", str(checkout))
    assert done.exit_code == 0, done.output
    assert "https://github.example/o/r/pull/7" in done.output
    branch = f"promote/staging/{NEW}"
    diff = subprocess.run(
        ["git", "diff", "--numstat", "origin/main", f"origin/{branch}"],
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert diff.split() == ["1", "1", "manifests/apps/staging/package.yaml"]
    assert (checkout / "unsaved.txt").exists()
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--title") + 1] == f"Promote movies {NEW} to staging"
    page = (tmp_path / "body.md").read_text()
    for words in ("0.1700 (0.1600–0.1800)", "admitted: better", "short \\| new", "c" * 40, "repeats", "revert"):
        assert words in page, words
    assert "@everyone" not in page
    assert "<less>" not in page
    again = slipway("open", "--to", "staging", "--root", str(checkout))
    assert "pull/7" in again.output, "one that is open is found again"


def test_what_nobody_has_tried_one_step_before_may_not_go_on(slipway, checkout):
    refused = slipway("open", "--to", "canary", "--package", NEW, "--root", str(checkout))
    assert isinstance(refused.exception, ManifestError)
    assert "staging has nothing" in str(refused.exception)
    promotion.write(checkout, Environment.STAGING, f"{STORE}/{NEW}")
    shown = slipway("body", "--to", "canary", "--root", str(checkout))
    assert shown.exit_code == 0, shown.output
    assert "from staging" in shown.output
    promotion.write(checkout, Environment.CANARY, f"{STORE}/{NEW}")
    promotion.write(checkout, Environment.PRODUCTION, f"{STORE}/{OLD}")
    shown = slipway("body", "--to", "production", "--root", str(checkout))
    assert f"`{OLD}` → `{NEW}`" in shown.output
    assert "0.1700 instead of 0.1600 (+0.0100), on the same cases" in shown.output


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (["--to", "prod"], ConfigError, "staging, canary, production"),
        (["--to", "canary"], ManifestError, "promote one to staging first"),
        (["--to", "staging", "--package", BAD], ManifestError, "its gate refused it"),
        (["--to", "staging", "--package", BAD], ManifestError, "cold_users"),
        (["--to", "staging", "--package", "9" * 12], TrackingError, "no version"),
        (["--to", "staging", "--root", "/nowhere"], ManifestError, "/nowhere holds no manifests/apps"),
        (["books", "--to", "staging"], TrackingError, "no model"),
    ],
)
def test_what_may_not_go_is_refused_before_a_pull_request(slipway, checkout, words, error, told):
    root = [] if "--root" in words else ["--root", str(checkout)]
    refused = slipway("body", *words, *root)
    assert isinstance(refused.exception, error), refused.output
    assert told in str(refused.exception)


def test_the_same_package_again_is_nothing_to_promote(slipway, checkout):
    promotion.write(checkout, Environment.STAGING, f"{STORE}/{NEW}")
    assert "already" in str(slipway("body", "--to", "staging", "--root", str(checkout)).exception)
    assert isinstance(slipway("open", "--to", "staging", "--root", str(checkout)).exception, SameError)
    by_schedule = slipway("open", "--to", "staging", "--root", str(checkout), "--if-new")
    assert by_schedule.exit_code == 0
    assert "already" in by_schedule.output


@pytest.mark.parametrize(
    "uri", [f"{STORE}/latest", f"{STORE}/{NOTHING}", f"file:///packages/{NEW}", f"{STORE}/../{NEW}", "s3://x"]
)
def test_only_a_packages_place_is_written(checkout, uri):
    before = (checkout / APPS / "production" / "package.yaml").read_bytes()
    with pytest.raises(ManifestError):
        promotion.write(checkout, Environment.PRODUCTION, uri)
    assert (checkout / APPS / "production" / "package.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["[]", "- op: add\n  path: /spec/x\n  value: s3://a/b\n", "- {op: replace, op: replace}\n", "{", "- 1\n- 2\n"],
)
def test_a_package_yaml_of_another_form_is_refused(checkout, text):
    (checkout / APPS / "canary" / "package.yaml").write_text(text)
    with pytest.raises(ManifestError, match=r"package\.yaml"):
        promotion.served(checkout, Environment.CANARY)


def test_a_page_that_github_would_refuse_is_cut(tracking):
    candidate = promotion.gather(Tracker(tracking, "movies"), "movies", NEW)
    long = candidate.evaluation.verdict.model_copy(update={"reason": "word " * 20_000})
    longer = candidate.evaluation.model_copy(update={"verdict": long})
    page = promotionpage.body(
        promotion.Candidate(candidate.registered, candidate.manifest, longer), Environment.STAGING, NOTHING, None
    )
    assert len(page) < 65_536
    assert json.dumps(page)


def test_without_gh_it_says_so(slipway, checkout, tmp_path, monkeypatch):
    (tmp_path / "bin" / "gh").unlink()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "gh is not here" in str(slipway("open", "--to", "staging", "--root", str(checkout)).exception)
