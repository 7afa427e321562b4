"""What runs inside Ray on a cluster: a training whose data, configuration and result lie below one URI.

    python -m components.train.job s3://bucket/slipway/checkpoints/<key>      (the entry point of a RayJob)

<uri>/job/request.json   what to train; <uri>/job/data   the data set
<uri>/job/model          the trained models; <uri>/job/metrics.json   written last: where it is, all is done

It speaks as a step does, a JSON line per event, which the step that submitted it reads from the job's log.
"""

import json
import sys
import tempfile
from pathlib import Path

from components.report import step
from slipway import storage, workload
from slipway.config import parse_overrides
from slipway.package import Frozen
from slipway.settings import settings
from slipway.workload import Scaling

REQUEST, DATA, MODEL, METRICS = "job/request.json", "job/data", "job/model", "job/metrics.json"


class Request(Frozen):
    workload: str
    profile: str
    overrides: str
    num_workers: int
    use_gpu: bool


def run(uri: str) -> None:
    """Raises SystemExit with 1 for any error, after one line that says it."""
    with step("train") as progress, tempfile.TemporaryDirectory(prefix="slipway-train-") as scratch:
        env = settings()
        objects = storage.store(uri, env.s3_endpoint_url)
        request = Request.model_validate_json(objects.read(REQUEST))
        chosen = workload.load(request.workload)
        config = chosen.config(request.profile, parse_overrides(request.overrides))
        data, out = Path(scratch) / "data", Path(scratch) / "model"
        progress("fetching the data set", 0.0, {})
        storage.get_tree(f"{uri}/{DATA}", data, env.s3_endpoint_url)
        scaling = Scaling(request.num_workers, request.use_gpu, env.s3_endpoint_url)
        metrics = chosen.train(data, out, config, scaling, progress, uri)
        storage.put_tree(out, f"{uri}/{MODEL}", env.s3_endpoint_url)
        objects.write(METRICS, json.dumps(metrics).encode())


if __name__ == "__main__":
    run(sys.argv[1])
