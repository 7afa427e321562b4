"""Simulated people who choose and rate films that do not exist, and an oracle who knows why.

slipway run                                            # the laptop: the default world, the whole line
python -m benchmarks.simulator --users 1_000_000       # how fast, in how much memory
"""

from slipway.workloads.movies.simulator.config import DEFAULT, TINY, SimulatorConfig
from slipway.workloads.movies.simulator.files import simulate

__all__ = ["DEFAULT", "TINY", "SimulatorConfig", "simulate"]
