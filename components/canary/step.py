"""A registered package → everybody's, under the judge; or rolled back, and then the pipeline has failed.

The step is the rollout's controller and ends with it. A step that is run again goes on with its rollout.
"""

from math import isfinite

from components.deploy import step as deploy
from components.report import emit, step
from slipway.errors import HeldError, RolloutError
from slipway.rollout import candidate, launch, policy, service
from slipway.rollout.record import Entry
from slipway.rollout.state import Phase
from slipway.settings import settings
from slipway.tracking import Tracker


def run(workload_name: str, package_uri: str, run_id: str, policy_name: str, every: float = 5.0) -> str:
    """Returns the service's URL once the package is the champion. Raises RolloutError with the judge's reason."""
    with step("canary") as progress:
        env = settings()
        rules = policy.read(policy_name)
        tracker = Tracker(env.tracking, workload_name)
        places = deploy.places(env, workload_name, every)
        if not launch.serves(places):
            progress("nothing serves yet, so there is nobody to compare it with", 0.0, {})
            url, number = deploy.direct(env, places, tracker, package_uri, progress)
            tracker.run(run_id).log(tags={"endpoint": url, "champion": number})
            emit("deployed", step="canary", url=url)
            return url
        try:
            state = launch.start(places, package_uri, rules, tracker, env)
        except HeldError:
            held = service.state(places.services.get(workload_name))
            wanted = candidate.resolve(package_uri, workload_name, tracker, env.s3_endpoint_url).version.uri
            if held is None or held.candidate.uri != wanted:
                raise
            state = held
        link = tracker.run(state.run).link() if state.run else ""
        tracker.run(run_id).log(tags={"rollout": state.id, "rollout_run": state.run})
        progress(f"rollout {state.id} of {state.candidate}, policy {state.policy} {link}".rstrip(), 0.0, {})
        said = ""

        def say(told: Entry) -> None:
            nonlocal said
            line = f"{told.phase} {told.stage}: {told.why}"
            if line != said:
                share = told.share / 100
                progress(line, share, {name: value for name, value in told.figures.items() if isfinite(value)})
                said = line

        ended = launch.drive(places, tracker, say)
        tracker.run(run_id).log(tags={"rollout_end": str(ended.phase), "rollout_reason": ended.reason[:4000]})
        if ended.phase is not Phase.PROMOTED:
            raise RolloutError(
                f"rollout {ended.id} of {ended.candidate} was {ended.phase}: {ended.reason}",
                f"each decision: slipway rollout history {workload_name} --id {ended.id}; plots: the MLflow run {link}",
            )
        url = str(places.services.get(workload_name)["status"]["url"])
        tracker.run(run_id).log(tags={"endpoint": url, "champion": ended.candidate.number})
        emit("deployed", step="canary", url=url)
        return url
