"""How the recommender behaves where a mean says nothing: domain cases, known failure modes and template tests.

Knows a Subject and returns measurements; what is good enough, thresholds.yaml says.
"""

from collections.abc import Callable

from slipway.evaluation.measurement import Measurement
from slipway.workload import Progress
from slipway.workloads.movies.behaviour.adversary import adversaries
from slipway.workloads.movies.behaviour.bubble import bubbles
from slipway.workloads.movies.behaviour.coldness import cold_start, lengths
from slipway.workloads.movies.behaviour.direction import directions
from slipway.workloads.movies.behaviour.domain import domain_cases
from slipway.workloads.movies.behaviour.functionality import minimum_functionality
from slipway.workloads.movies.behaviour.invariance import invariances
from slipway.workloads.movies.behaviour.popularity import collapse
from slipway.workloads.movies.behaviour.repeats import shown_again, staleness
from slipway.workloads.movies.behaviour.sample import Sample
from slipway.workloads.movies.behaviour.series import Followers
from slipway.workloads.movies.behaviour.subject import Subject

__all__ = ["Subject", "measure"]

CASES = 400  # real cases that most failure modes are read from


def measure(subject: Subject, progress: Progress) -> list[Measurement]:
    """Every behavioural measurement of the subject; a test that the data cannot pose comes back with cases 0."""
    sample = Sample.draw(subject, CASES)
    followers = Followers.of(subject.train)
    parts: dict[str, Callable[[], list[Measurement]]] = {
        "domain cases": lambda: domain_cases(subject, sample),
        "popularity": lambda: collapse(subject, sample),
        "repeats": lambda: shown_again(subject, sample),
        "staleness": lambda: staleness(subject, sample),
        "filter bubbles": lambda: bubbles(subject, sample),
        "cold start": lambda: cold_start(subject, sample),
        "lengths": lambda: lengths(subject, sample),
        "adversaries": lambda: adversaries(subject, sample),
        "invariance": lambda: invariances(subject, sample),
        "direction": lambda: directions(subject, sample, followers),
        "functionality": lambda: minimum_functionality(subject, sample, followers),
    }
    measured: list[Measurement] = []
    for done, (name, part) in enumerate(parts.items()):
        progress(f"behaviour: {name}", done / len(parts), {})
        measured += part()
    progress("behaviour", 1.0, {"measurements": float(len(measured))})
    return measured
