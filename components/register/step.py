"""Servable files → a sealed package with its cards in the object store, and a version in the MLflow registry."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from components.report import step
from slipway import storage, workload
from slipway.cards import card
from slipway.cards.facts import Origin
from slipway.evaluation.results import Evaluation
from slipway.package import Package, Snapshot, check_golden, write_golden
from slipway.settings import settings
from slipway.tracking import Tracker

CARDS = "cards"  # folder of the MLflow run's artifacts


def run(
    workload_name: str, profile: str, run_id: str, dataset: Path, model: Path, servable: Path, evaluation: Path
) -> str:
    """servable: what the optimise step left of model. Returns the package's URI.

    The registry's alias `challenger` points at it afterwards, not before.
    """
    with step("register") as progress, tempfile.TemporaryDirectory(prefix="slipway-register-") as scratch:
        env = settings()
        chosen = workload.load(workload_name)
        tracker = Tracker(env.tracking, workload_name)
        with tracker.run(run_id) as tracked:
            folder = Path(scratch) / "package"
            progress("recording its answers", 0.0, {})
            shutil.copytree(servable, folder)
            exported = chosen.contract(dataset, folder)
            write_golden(folder, exported.golden)
            facts, evaluated = chosen.facts(dataset, model), Evaluation.read(evaluation)
            (folder / card.MODEL_CARD).write_text(card.model_card(facts, evaluated), "utf-8")
            (folder / card.DATA_CARD).write_text(card.data_card(facts), "utf-8")
            package = Package.seal(
                folder,
                workload=workload_name,
                created=datetime.now(UTC),
                git_commit=env.git_commit,
                pipeline_run=env.pipeline_run,
                data=Snapshot(
                    uri=exported.data_uri or dataset.as_posix(), sha256=exported.data_sha256, events=exported.events
                ),
                signature=exported.signature,
                metrics=evaluated.flat(),
            )
            progress("checking the sealed package", 0.5, {})
            predictor = chosen.predictor(Package.open(folder))
            check_golden(package, lambda inputs: predictor.predict(inputs).outputs)
            uri = f"{env.store}/packages/{workload_name}/{package.version}"
            if not storage.is_complete(uri, env.s3_endpoint_url):
                storage.put_tree(folder, uri, env.s3_endpoint_url)
            tracked.log_files(folder / "package.json", "package")
            origin = Origin(
                version=package.version,
                git_commit=env.git_commit,
                pipeline_run=env.pipeline_run,
                mlflow_run=run_id,
                profile=profile,
                created=package.manifest.created,
            )
            cards = Path(scratch) / CARDS
            cards.mkdir()
            (cards / card.MODEL_CARD).write_text(card.model_card(facts, evaluated, origin), "utf-8")
            (cards / card.DATA_CARD).write_text(card.data_card(facts), "utf-8")
            tracked.log_files(cards, CARDS)
            tags = {"git_commit": env.git_commit, "pipeline_run": env.pipeline_run, "profile": profile}
            number = tracker.register(workload_name, uri, package.version, run_id, tags, card.summary(evaluated))
            tracked.log(tags={"package_uri": uri, "package_version": package.version, "model_version": number})
            tracked.finish()
        return uri
