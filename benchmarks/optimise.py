"""What makes the served ranker faster, and what that costs in quality? The optimise step on a trained model.

    python -m benchmarks.optimise --data <data set folder> --model <trained model folder> --on "MovieLens-1M"

Exports the model and tries every candidate of the profile, as `slipway run` does between the gate and the registry;
writes docs/evidence/optimise.md, .json and .svg.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import yaml
from rich.progress import Progress

from slipway import workload
from slipway.config import parse_assignments
from slipway.optimisation.results import FILE, PLOT

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a data set folder, as the ingest step writes it")
    parser.add_argument("--model", type=Path, required=True, help="a trained model folder, as the train step writes it")
    parser.add_argument("--on", required=True, help="what data that is, in words")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--set", action="append", default=[], help="optimise.users=1000 and so on; repeatable")
    parser.add_argument("--name", default="optimise", help="of the page")
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    movies = workload.load("movies")
    config = movies.config(options.profile, parse_assignments(options.set))
    with tempfile.TemporaryDirectory(prefix="slipway-optimise-") as folder, Progress() as shown:
        task = shown.add_task("", total=1.0)
        found = movies.optimise(
            options.data,
            options.model,
            Path(folder) / "servable",
            config,
            lambda what, share, _: shown.update(task, description=what, completed=share),
        )
        found.publish(Path(folder))
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(folder) / FILE, options.out / f"{options.name}.json")
        shutil.copyfile(Path(folder) / PLOT, options.out / f"{options.name}.svg")
    words = "".join(f" --set {one}" for one in options.set)
    words += f" --name {options.name}" if options.name != parser.get_default("name") else ""
    title, _, rest = found.markdown().partition("\n")
    command = (
        f"python -m benchmarks.optimise --data <folder> --model <folder> --on … --profile {options.profile}{words}"
    )
    settings = yaml.safe_dump(config.optimise.limits.model_dump(), default_flow_style=True, width=1000).strip()
    text = (
        f"{title}\n\n`{command}`, on {options.on}. Limits: `{settings}`.\n{rest}\n"
        f"![latency against quality]({options.name}.svg)\n"
    )
    (options.out / f"{options.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
