"""The session-based movie recommender: sources, simulator, sequences, baselines, ranker, evaluation, serving."""

from slipway.workload import Workload

# Imported here and not below: importing the module `workload` later would put it in the place of the function.
from slipway.workloads.movies.workload import Movies


def workload() -> Workload:
    return Movies()
