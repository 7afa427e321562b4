"""A package on its way from one environment to the next: whether it may go, what changes, and the pull request.

The way is registry → staging → canary → production, one step at a time; who merges decides. Knows the registry,
package.yaml of each environment, git and `gh`; nothing of a cluster. What a reviewer reads is promotionpage.py's.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import ValidationError

from slipway.config import UniqueLoader
from slipway.errors import ConfigError, ManifestError, SameError, SourceError, TrackingError
from slipway.evaluation.checks import Outcome
from slipway.evaluation.results import Evaluation
from slipway.inferenceservice import check_storage_uri
from slipway.package import MANIFEST, Manifest
from slipway.tracking import CHALLENGER, Registered, Tracker

APPS = Path("manifests") / "apps"
NOTHING = "0" * 12  # the version in a package.yaml to which nothing was promoted
POINTER = "/spec/predictor/model/storageUri"
TIMEOUT = 120.0  # seconds for one call of git or gh


class Environment(StrEnum):
    STAGING = "staging"
    CANARY = "canary"
    PRODUCTION = "production"

    @property
    def before(self) -> "Environment | None":
        """Whose package comes here; None: the registry's."""
        order = list(Environment)
        return order[order.index(self) - 1] if order.index(self) else None

    @classmethod
    def of(cls, name: str) -> "Environment":
        try:
            return cls(name)
        except ValueError as error:
            raise ConfigError(
                f"there is no environment {name!r}", f"choose one of: {', '.join(map(str, cls))}"
            ) from error


@dataclass(frozen=True)
class Candidate:
    """A registered package and what its evaluation found. link: of its MLflow run, "" where MLflow is a file."""

    registered: Registered
    manifest: Manifest
    evaluation: Evaluation
    link: str = ""


def served(root: Path, environment: Environment) -> str:
    """The package's URI in <root>/manifests/apps/<environment>/package.yaml; its version is NOTHING before the first.

    Raises ManifestError when the file is not the one operation that it has to be.
    """
    path = root / APPS / environment / "package.yaml"
    if not (root / APPS).is_dir():
        raise ManifestError(f"{root.resolve()} holds no {APPS}", "name a checkout of the repository: --root")
    remedy = f"bring {path} back to one operation that replaces {POINTER}: see manifests/apps/README.md"
    try:
        document = yaml.load(path.read_text("utf-8"), UniqueLoader)  # noqa: S506 - a SafeLoader
        [operation] = document
        if {key: operation[key] for key in ("op", "path")} != {"op": "replace", "path": POINTER}:
            raise ValueError(f"its operation is {operation}")
        uri = str(operation["value"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read: {error}", remedy) from error
    check_storage_uri(uri)
    return uri


def version(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]


def next_up(root: Path, to: Environment) -> str:
    """What goes to `to` where nothing else is named: the package one step before it, or the registry's challenger.

    Raises ManifestError when one step before there is none yet.
    """
    if to.before is None:
        return CHALLENGER
    if (found := version(served(root, to.before))) == NOTHING:
        raise ManifestError(
            f"{to.before} has no package yet, so there is none to bring to {to}",
            f"promote one to {to.before} first: slipway promotion open --to {to.before}",
        )
    return found


def gather(tracker: Tracker, model: str, which: str) -> Candidate:
    """which: an alias, a number, a package's version or URI. Raises TrackingError when the run lacks its evidence."""
    registered = tracker.registered(model, which)
    run_id = str(tracker.client.get_model_version(model, registered.number).run_id or "")
    remedy = "promote a version that `slipway run` registered: it leaves its evaluation in its MLflow run"
    if not run_id:
        raise TrackingError(f"version {registered.number} of {model} names no run", remedy)
    with tempfile.TemporaryDirectory(prefix="slipway-promotion-") as scratch:
        try:
            package = Path(tracker.client.download_artifacts(run_id, f"package/{MANIFEST}", scratch))
            manifest = Manifest.model_validate_json(package.read_bytes())
            found = Path(tracker.client.download_artifacts(run_id, "evaluation/evaluation.json", scratch))
            evaluation = Evaluation.read(found.parent)
        except (ValidationError, SourceError) as error:
            raise TrackingError(
                f"run {run_id} of {model} has a damaged evaluation or package: {error}", remedy
            ) from error
        except Exception as error:  # mlflow raises whatever its store does
            raise TrackingError(
                f"run {run_id} of {model} lacks its evaluation or package.json: {error}", remedy
            ) from error
    if manifest.version != registered.package:
        raise TrackingError(
            f"version {registered.number} of {model} is package {registered.package}, its run's is {manifest.version}",
            remedy,
        )
    return Candidate(registered, manifest, evaluation, tracker.run(run_id).link())


def check(candidate: Candidate, to: Environment, root: Path) -> None:
    """Raises ManifestError when the package may not go there, with each reason; SameError when it is there."""
    evaluation, wanted = candidate.evaluation, candidate.manifest.version
    if version(served(root, to)) == wanted:
        raise SameError(f"{to} has package {wanted} already", "there is nothing to promote")
    wrong = []
    if not evaluation.verdict.admitted:
        wrong.append(f"its gate refused it ({evaluation.verdict.reason})")
    failed = [c.name for c in evaluation.checks if c.blocking and c.outcome is Outcome.FAILED]
    if failed:
        wrong.append(f"blocking checks failed ({', '.join(failed)})")
    if to.before and version(served(root, to.before)) != wanted:
        has = version(served(root, to.before))
        wrong.append(f"{to.before} has {'nothing' if has == NOTHING else has}, so nobody has tried it there")
    if wrong:
        remedy = f"promote it to {to.before} first" if to.before else "train again; slipway cards shows what failed"
        raise ManifestError(f"package {wanted} may not go to {to}: {'; '.join(wrong)}", remedy)


def write(root: Path, to: Environment, uri: str) -> Path:
    """Change the one value of package.yaml and no other byte. Raises ManifestError for a URI that is no package's."""
    check_storage_uri(uri)
    if not re.fullmatch("[0-9a-f]{12}", version(uri)) or version(uri) == NOTHING:
        raise ManifestError(f"{uri} ends in no package's version", "name <store>/packages/<model>/<12 hex digits>")
    before = served(root, to)
    if uri.partition("://")[0] != "s3":
        raise ManifestError(f"a cluster cannot read {uri}", "register from a store on S3: SLIPWAY_STORE_URI=s3://…")
    path = root / APPS / to / "package.yaml"
    text = path.read_text("utf-8")
    path.write_text(text.replace(f"value: {before}", f"value: {uri}", 1), "utf-8")
    return path


def open_pull_request(checkout: Path, base: str, to: Environment, uri: str, title: str, body: str) -> str:
    """The pull request's URL, of branch promote/<environment>/<version>; one that is open already is found again.

    Works in a work tree of its own, so that what is being edited in checkout is not touched. Raises ConfigError when
    git or gh are not there or refuse.
    """
    branch = f"promote/{to}/{version(uri)}"
    if shutil.which("gh") is None:
        raise ConfigError("gh is not here", "install GitHub's command line, or open the pull request by hand")
    open_ = ["gh", "pr", "list", "--head", branch, "--state", "open", "--json", "url", "--jq", ".[0].url"]
    if url := _run(open_, checkout):
        return url
    _run(["git", "fetch", "--quiet", "origin", base], checkout)
    with tempfile.TemporaryDirectory(prefix="slipway-promotion-") as scratch:
        tree = Path(scratch) / "tree"
        _run(["git", "worktree", "add", "--quiet", "--detach", str(tree), f"origin/{base}"], checkout)
        try:
            changed = write(tree, to, uri).relative_to(tree)
            _run(["git", "switch", "--quiet", "--force-create", branch], tree)
            _run(["git", "commit", "--quiet", "--message", title, "--", str(changed)], tree)
            _run(["git", "push", "--quiet", "--force", "origin", branch], tree)
        finally:
            _run(["git", "worktree", "remove", "--force", str(tree)], checkout)
        page = Path(scratch) / "body.md"
        page.write_text(body, "utf-8")
        create = ["gh", "pr", "create", "--base", base, "--head", branch, "--title", title, "--body-file", str(page)]
        return _run(create, checkout)


def _run(command: Sequence[str], folder: Path) -> str:
    """What it prints. Its errors hold no credentials: git and gh take those from their own stores."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{' '.join(command[:2])} did not run: {error}", "install it, or try again") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ConfigError(f"{' '.join(command[:3])} ended with {done.returncode}: {said[-1] if said else ''}", "")
    return done.stdout.strip()
