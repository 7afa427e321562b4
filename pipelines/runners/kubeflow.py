"""Kubeflow Pipelines' API, over kfp.Client: its errors are ours, it prints nothing. Knows no parameter's meaning."""

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from slipway.errors import ConfigError, PipelineError
from slipway.settings import Settings

TIMEOUT = 30  # seconds that one call may take
LOG_TAIL = 256 << 10  # bytes of a pod's log, from its end

Answer = TypeVar("Answer")


def no_endpoint() -> ConfigError:
    return ConfigError(
        "no Kubeflow Pipelines endpoint is set",
        "set SLIPWAY_KFP_ENDPOINT=http://127.0.0.1:8888, beside kubectl -n kubeflow port-forward svc/ml-pipeline 8888; "
        "or to the API's own address",
    )


class AwayError(PipelineError):
    """The API did not answer, or answered that it cannot now: what was asked may be asked again."""


class Kubeflow:
    """One API server, and the namespace in it. Every method raises PipelineError with the API's own words."""

    def __init__(self, env: Settings) -> None:
        if not env.kfp_endpoint:
            raise no_endpoint()
        if env.kfp_token_file is not None and not env.kfp_token_file.is_file():
            raise ConfigError(f"there is no file {env.kfp_token_file}", "correct SLIPWAY_KFP_TOKEN_FILE")
        self.endpoint = env.kfp_endpoint.rstrip("/")
        self.namespace = env.kfp_namespace
        self._env = env
        self._client: Any = self._asked("log in", self._connect)

    def _connect(self) -> Any:
        import kfp.client

        credentials = None
        if self._env.kfp_token_file is not None:
            credentials = kfp.client.ServiceAccountTokenVolumeCredentials(str(self._env.kfp_token_file))
        # "kubeflow" is the client's word for: of a single user.
        return kfp.client.Client(host=self.endpoint, namespace=self.namespace or "kubeflow", credentials=credentials)

    def link(self, run_id: str) -> str:
        """Of the dashboard, which stands in front of the API, or behind the same host."""
        return f"{self.endpoint}/#/runs/details/{run_id}"

    def experiment(self, name: str) -> str:
        """Its id; made where there is none."""
        made = self._asked(
            f"find experiment {name!r}", lambda: self._client.create_experiment(name, namespace=self.namespace)
        )
        return str(made.experiment_id)

    def version(self, pipeline: str, version: str, text: str, description: str) -> tuple[str, str]:
        """(pipeline's id, version's id); uploaded where there is none of that name. text: the compiled pipeline."""
        pipeline_id = self._asked(f"find pipeline {pipeline!r}", lambda: self._client.get_pipeline_id(pipeline))
        if pipeline_id is None:
            pipeline_id = self._create(pipeline)
        known = self._asked(
            f"list versions of {pipeline!r}",
            lambda: self._client.list_pipeline_versions(pipeline_id, filter=_named(version)).pipeline_versions,
        )
        if known:
            return pipeline_id, str(known[0].pipeline_version_id)
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "pipeline.yaml"
            package.write_text(text)
            made = self._asked(
                f"upload version {version!r} of pipeline {pipeline!r}",
                lambda: self._client.upload_pipeline_version(
                    str(package), version, pipeline_id=pipeline_id, description=description
                ),
            )
        return pipeline_id, str(made.pipeline_version_id)

    def _create(self, pipeline: str) -> str:
        """Empty: an upload of the pipeline itself would make a version that is named like it."""
        from kfp_server_api import V2beta1Pipeline

        body = V2beta1Pipeline(display_name=pipeline, name=pipeline, namespace=self.namespace)
        made = self._asked(
            f"create pipeline {pipeline!r}",
            lambda: self._client.pipelines.pipeline_service_create_pipeline(body, _request_timeout=TIMEOUT),
        )
        return str(made.pipeline_id)

    def run(
        self,
        name: str,
        experiment_id: str,
        source: tuple[str, str],
        arguments: Mapping[str, object],
        service_account: str,
    ) -> str:
        """The run's id. source: as `version` gives it. What may be cached is compiled in: a switch for the whole run
        would also cache the steps that look at the lake.
        """
        made = self._asked(
            "start the run",
            lambda: self._client.run_pipeline(
                experiment_id,
                name,
                params=dict(arguments),
                pipeline_id=source[0],
                version_id=source[1],
                service_account=service_account,
            ),
        )
        return str(made.run_id)

    def get_run(self, run_id: str) -> Any:
        return self._asked(
            f"find run {run_id}",
            lambda: self._client.runs.run_service_get_run(run_id, _request_timeout=TIMEOUT),
        )

    def terminate(self, run_id: str) -> None:
        self._asked(f"end run {run_id}", lambda: self._client.terminate_run(run_id))

    def log(self, run_id: str, pod: str) -> str:
        """The end of what a step's main container said; "" when Kubernetes has it no more."""
        path = f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"  # plain HTTP, which the generated client leaves out
        api = self._client._run_api.api_client

        def read() -> str:
            answer = api.call_api(
                path, "GET", auth_settings=["Bearer"], _preload_content=False, _request_timeout=TIMEOUT
            )
            return str(answer.data[-LOG_TAIL:].decode(errors="replace"))

        try:
            return self._asked(f"read the log of {pod}", read)
        except PipelineError:
            return ""

    def schedule(
        self,
        name: str,
        experiment_id: str,
        source: tuple[str, str],
        arguments: Mapping[str, object],
        service_account: str,
        cron: str,
        description: str,
    ) -> str:
        made = self._asked(
            f"create schedule {name!r}",
            lambda: self._client.create_recurring_run(
                experiment_id,
                name,
                description=description,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,  # a cluster that was away must not train for each day that it missed
                params=dict(arguments),
                pipeline_id=source[0],
                version_id=source[1],
                service_account=service_account,
            ),
        )
        return str(made.recurring_run_id)

    def schedules(self, name: str = "") -> list[Any]:
        """All of them, or those of that name."""
        found: list[Any] = []
        token = ""
        while True:
            page = self._asked(
                "list schedules",
                lambda token=token: self._client.list_recurring_runs(
                    page_token=token,
                    page_size=100,
                    namespace=self.namespace,
                    **({"filter": _named(name)} if name else {}),
                ),
            )
            found += page.recurring_runs or []
            token = page.next_page_token or ""
            if not token:
                return found

    def switch(self, schedule_id: str, on: bool) -> None:
        change = self._client.enable_recurring_run if on else self._client.disable_recurring_run
        self._asked(f"change schedule {schedule_id}", lambda: change(schedule_id))

    def unschedule(self, schedule_id: str) -> None:
        self._asked(f"delete schedule {schedule_id}", lambda: self._client.delete_recurring_run(schedule_id))

    def _asked(self, what: str, call: Callable[[], Answer]) -> Answer:
        from kfp_server_api.exceptions import ApiException, ApiTypeError, ApiValueError
        from urllib3.exceptions import HTTPError

        try:
            with redirect_stdout(io.StringIO()):  # the client prints links, and HTML where it thinks it can
                return call()
        except ApiException as error:
            raise self._refused(what, error) from error
        except (HTTPError, TimeoutError, OSError) as error:
            raise AwayError(
                f"Kubeflow Pipelines at {self.endpoint} cannot be reached: {error}",
                "check SLIPWAY_KFP_ENDPOINT and that you can reach it: kubectl -n kubeflow port-forward "
                "svc/ml-pipeline 8888",
            ) from error
        except (ApiTypeError, ApiValueError, ValueError, TypeError) as error:
            raise PipelineError(
                f"Kubeflow Pipelines at {self.endpoint} does not answer as its API should: {error}",
                "check that SLIPWAY_KFP_ENDPOINT names the API of Kubeflow Pipelines 2, not another page",
            ) from error

    def _refused(self, what: str, error: Any) -> PipelineError:
        try:
            words = json.loads(error.body)
            said = words.get("message") or words.get("error_message") or words.get("error") or error.reason
        except (ValueError, TypeError, AttributeError):
            said = error.reason
        message = f"Kubeflow Pipelines at {self.endpoint} would not {what}: {error.status}: {said}"
        match error.status:
            case 401 | 403:
                remedy = "log in, and name the token's file with SLIPWAY_KFP_TOKEN_FILE; ask who may submit runs"
                return PipelineError(message, f"{remedy} in namespace {self.namespace or 'kubeflow'}")
            case 404:
                return PipelineError(message, "check the id, and that SLIPWAY_KFP_ENDPOINT is the right cluster")
            case 429 | 502 | 503 | 504:
                return AwayError(message, "try again")
        return PipelineError(message, "see the log of deployment ml-pipeline in namespace kubeflow")


def _named(name: str) -> str:
    """The API's filter for one display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
