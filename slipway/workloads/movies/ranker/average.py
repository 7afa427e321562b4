"""The exponential moving average of a model's weights, beside them. Knows tensors; knows no training.

The decay of step t is min(decay, (1 + t) / (10 + t)): an average over the last tenth of a short run, so that it does
not remember how the run began (the warm-up of TensorFlow's ExponentialMovingAverage).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from slipway.workloads.movies.ranker.parallel import local


class Average:
    """decay 0: none is kept. Of sharded parameters each worker averages its own part."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._live = local(parameters)
        self._mean: list[Tensor] = []
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """The average is what the weights are now."""
        self._mean = [t.clone() for t in self._live] if self.decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._mean, self._live, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model's weights are the average; the very same weights are back afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        held = [t.clone() for t in self._live]
        torch._foreach_copy_(self._live, self._mean)
        torch._foreach_copy_(self._mean, held)
