"""Options that several commands have: named, abbreviated and explained once. Knows no command."""

from enum import StrEnum
from typing import Annotated

import typer


class Runner(StrEnum):
    local = "local"
    container = "container"
    cluster = "cluster"


Workload = Annotated[str, typer.Option("--workload", "-w", help="A folder of slipway/workloads.")]
Profile = Annotated[str, typer.Option("--profile", "-p", help="demo or full: how much, how long.")]
Data = Annotated[
    str, typer.Option("--data", "-d", help='A folder or s3:// URI, "simulated", or lake:<data set>@<version>.')
]
Files = Annotated[str, typer.Option("--data", "-d", help='A folder or s3:// URI, or "simulated".')]
DataSet = Annotated[
    str | None,
    typer.Option("--data-set", help="Data set of the lake; default SLIPWAY_DATA_SET.", show_default=False),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One key over the profile, such as train.epochs=3. Repeatable."),
]
Workers = Annotated[int, typer.Option(min=0, help="Ray Train workers; 0 trains in the step's own process.")]
Gpu = Annotated[bool, typer.Option("--gpu", help="Give each worker a GPU.")]
RunsOn = Annotated[
    Runner,
    typer.Option("--runner", help="This machine, this machine with a container per step, or Kubeflow Pipelines."),
]
Wait = Annotated[bool, typer.Option(help="Follow a run on Kubeflow Pipelines to its end.")]
