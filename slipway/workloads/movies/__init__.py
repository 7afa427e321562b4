"""The session-based movie recommender: sources, simulator, sequences, baselines, ranker, evaluation, serving."""

from slipway.workload import Workload


def workload() -> Workload:
    from slipway.workloads.movies.workload import Movies

    return Movies()
