"""A registered package → a verdict: deployed to `staging`, asked by the integration suite, loaded under an SLO."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from components.report import emit, step
from components.stage import service, suite
from components.stage.endpoint import Endpoint
from components.stage.verdict import RefusedError, Verdict
from load_tests import run as load
from load_tests import slo
from slipway import storage
from slipway.deployment import Services, address
from slipway.errors import AbsentError, ConfigError, NotReadyError
from slipway.inferenceservice import Document
from slipway.package import Package
from slipway.settings import Settings, settings
from slipway.tracking import Tracker
from slipway.workload import Progress

FOLDER = "staging"  # of the MLflow run's artifacts
TAG_LENGTH = 5_000  # MLflow's limit


def run(workload_name: str, package_uri: str, run_id: str, slo_name: str = "demo", report: Path | None = None) -> str:
    """Returns the package's URI; "" as SLO tries nothing.

    Raises RefusedError for a build that does not hold; the report is written before.
    """
    with step("stage") as progress:
        if not slo_name:
            return package_uri
        verdict = stage(workload_name, package_uri, run_id, slo_name, progress, report=report)
        emit("staged", step="stage", package=verdict.package, slo=verdict.slo)
        return package_uri


def stage(
    workload_name: str,
    package_uri: str,
    run_id: str,
    slo_name: str,
    progress: Progress,
    *,
    keep: bool = False,
    report: Path | None = None,
    out: Path | None = None,
    wanted: Sequence[Document] | None = None,
) -> Verdict:
    """Deploy, try, load, log to the MLflow run (none where run_id is ""), remove.

    out: a new folder for everything that is logged; by default a temporary one. report: where its page goes as well.
    wanted: the documents to apply instead of those that render the package.
    Raises RefusedError with the verdict, StagingError while another staging goes on, ConfigError for an SLO that cannot
    be used, before anything is started.
    """
    began, env = time.monotonic(), settings()
    chosen = slo.read(slo_name)
    kubeconfig = Path(told) if (told := os.environ.get("KUBECONFIG")) else None
    with tempfile.TemporaryDirectory(prefix="slipway-stage-") as scratch:
        progress("fetching the package", 0.0, {})
        folder, kept, out = Path(scratch) / "package", out, out or Path(scratch) / FOLDER
        storage.get_tree(package_uri, folder, env.s3_endpoint_url)
        package = Package.open(folder)
        try:
            out.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"{out} cannot be made: {error.strerror}", "name a new folder") from error
        documents = wanted or service.documents(
            package.manifest,
            name=workload_name,
            package_uri=package_uri,
            image=env.serving_image,
            namespace=env.staging_namespace,
        )
        try:
            with service.deployed(documents, progress, kubeconfig=kubeconfig, keep=keep) as url:
                if urlsplit(url).scheme == "https" and address(url)[1]:
                    raise ConfigError(
                        "the embedded KServe's ingress speaks TLS, and staging asks without",
                        "try the build where SLIPWAY_TLS_CERT is not set: another SLIPWAY_HOME, other ports",
                    )
                findings = _integrate(url, workload_name, package, kubeconfig, env, progress)
                loaded = None
                if all(finding.result is not suite.Result.FAILED for finding in findings):
                    loaded = load.run(
                        chosen,
                        str(Path(slo_name).resolve()) if Path(slo_name).is_file() else slo_name,
                        url,
                        out,
                        lambda what, share, metrics: progress(what, 0.25 + 0.7 * share, metrics),
                        model=workload_name,
                        package=folder,
                        allow_remote=True,  # whoever may deploy there may ask there
                        token=env.token(),
                    )
        except NotReadyError as error:
            findings = (suite.Finding("deployment", suite.Result.FAILED, error.message, time.monotonic() - began),)
            url, loaded = "", None
        verdict = Verdict(package.version, url, chosen.name, findings, loaded, time.monotonic() - began)
        page = verdict.write(out)
        if report is not None:
            shutil.copyfile(page, report)
        if run_id:
            tags = {"staging": "passed" if verdict.passed else "refused", "staging_slo": chosen.name}
            tracked = Tracker(env.tracking, workload_name).run(run_id)
            reason = "; ".join(verdict.broken)[:TAG_LENGTH]
            tracked.log(metrics=verdict.metrics(), tags=tags | {"staging_reason": reason or "every check held"})
            tracked.log_files(out, FOLDER)
        if not verdict.passed:
            place = f"see {kept / 'report.html'}" if kept else "do it again with --out for the report and its plots"
            raise RefusedError(verdict, f"see report.html in {FOLDER}/ of the MLflow run" if run_id else place)
        return verdict


def _integrate(
    url: str, model: str, package: Package, kubeconfig: Path | None, env: Settings, progress: Progress
) -> tuple[suite.Finding, ...]:
    findings: list[suite.Finding] = []
    services = Services(env.staging_namespace, kubeconfig)

    def figures() -> Document | None:
        with contextlib.suppress(AbsentError):  # a cluster has them in Prometheus
            return services.figures(model)
        return None

    with Endpoint(url, model, package.manifest.signature, env.token()) as endpoint:
        for finding in suite.run(suite.Staged(endpoint, package, env.feature_store is not None, figures)):
            findings.append(finding)
            done = 0.1 + 0.15 * len(findings) / len(suite.CHECKS)
            progress(f"integration: {finding.name} {finding.result}", done, {})
    return tuple(findings)
