"""The trained ranker as a Scorer, in fp32. Knows cases and batches; knows no training."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker import checkpoint
from slipway.workloads.movies.ranker.model import UNKNOWN_USER, Ranker
from slipway.workloads.movies.scorer import Scores

CASES = 64  # per batch; sorted by length, so that short histories do not pay for long ones


@dataclass(frozen=True, eq=False)
class RankerScorer:
    """bf16: autocast, for the sample that training looks at; answers that are kept use fp32."""

    model: Ranker
    name: str = "ranker"
    bf16: bool = False

    @classmethod
    def load(cls, model: Path) -> "RankerScorer":
        """From a trained model folder; raises PackageError when it has no usable ranker."""
        return cls(checkpoint.load(model)[0])

    @torch.inference_mode()
    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        device = self.model.item.weight.device
        owners = np.searchsorted(whole.indptr, positions, side="right") - 1
        begins = np.maximum(whole.indptr[owners], positions - self.model.config.max_len)
        lengths = positions - begins
        order = np.argsort(lengths, kind="stable")
        scores = np.empty((len(positions), whole.n_items + 1), dtype=np.float32)
        training = self.model.training
        self.model.eval()
        for start in range(0, len(order), CASES):
            rows = order[start : start + CASES]
            width = max(int(lengths[rows].max()), 1)
            offsets = np.arange(width)
            real = offsets < lengths[rows, None]  # (cases, width)
            items = np.where(real, whole.items[np.where(real, begins[rows, None] + offsets, 0)], 0)
            known = owners[rows] < self.model.n_users  # beyond them are people whom training has never seen
            users = torch.from_numpy(np.where(known, owners[rows] + 1, UNKNOWN_USER)).to(device)
            with self._precision(device):
                logits = self.model.newest(torch.from_numpy(items.astype(np.int64)).to(device), users)
            scores[rows] = logits.float().cpu().numpy()
        self.model.train(training)
        return scores

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()
