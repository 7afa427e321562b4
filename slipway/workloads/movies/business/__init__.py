"""What recommendations are worth to the streaming service of the README, measured on its simulated people.

    uplift(data, subject, progress)      expected plays per visit of what is served, over the editorial row

docs/business.md says why this metric, and how it is measured in production.
"""

from slipway.workloads.movies.business.comparison import uplift

__all__ = ["uplift"]
