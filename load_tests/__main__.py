"""One load test from the command line. Exits with 0 when the SLO held, 1 when it did not or nothing could be measured.

python -m load_tests --slo demo --url http://movies.default.localhost:8080
python -m load_tests --slo my.yaml --url http://127.0.0.1:8080 --package <folder> --out <a new folder>
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from load_tests import slo
from load_tests.run import address, run
from slipway.errors import ConfigError, SlipwayError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slo", default="demo", help=f"{', '.join(slo.names())}, or a YAML file")
    parser.add_argument("--url", required=True, help="of the InferenceService")
    parser.add_argument("--model", default="movies", help="name on the endpoint's path")
    parser.add_argument("--package", type=Path, help="model package whose users come; default: the simulator's")
    parser.add_argument("--out", type=Path, help="a new folder for the reports; default: a temporary one")
    parser.add_argument("--allow-remote", action="store_true", help="load an address that is not this machine's")
    options = parser.parse_args(argv)
    console = Console()
    try:
        chosen = slo.read(options.slo)
        address(options.url, options.allow_remote)
        if options.out and options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
            raise ConfigError(f"{options.out} is already there", "name a new folder")
        out = options.out or Path(tempfile.mkdtemp(prefix="slipway-load-"))
        out.mkdir(parents=True, exist_ok=True)
        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(28),
            TimeElapsedColumn(),
            TextColumn("{task.fields[m]}"),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
            task = shown.add_task("starting", total=1.0, m="")
            result = run(
                chosen,
                str(Path(options.slo).resolve()) if Path(options.slo).is_file() else options.slo,
                options.url,
                out.resolve(),
                lambda what, share, metrics: shown.update(
                    task, description=what, completed=share, m=", ".join(f"{k} {v:.3g}" for k, v in metrics.items())
                ),
                model=options.model,
                package=options.package.resolve() if options.package else None,
                allow_remote=options.allow_remote,
            )
        from load_tests import plots

        plots.draw(result)
    except SlipwayError as error:
        Console(stderr=True).print(f"[bold red]error:[/bold red] {error}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(slo.table(result.outcomes), highlight=False)
    console.print(f"\n{'refused' if result.breaches else 'held'}; reports in {out}", highlight=False, soft_wrap=True)
    return 1 if result.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
