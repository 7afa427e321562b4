"""What the ranker minimises, by LossConfig: full, sampled or generalised binary cross-entropy. Knows tensors only.

Every loss is called with hidden (N, dim), fp32 or bf16, N >= 1: the real positions only; weight (V + 1, dim), the item
embedding, whose row 0 is the padding: no probability, never a negative, no gradient; targets (N,) int64 in 1..V. It
gives the mean over positions, an fp32 scalar. Negatives come from torch's generator, so a seed decides them.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slipway.workloads.movies.ranker.config import LossConfig

CHUNK = 512  # rows: 512 × 3,416 bf16 logits are 3.5 MB, and the weight's gradient is added to 8 times per 4,096 rows
DENSE = 64  # of up to so many items per negative, all scores and a gather cost less than fetching each one's embedding


def build(config: LossConfig, popularity: Tensor) -> nn.Module:
    """popularity: (V + 1,) training events per item. Returns the module that is called as this one's docstring says."""
    match config.kind:
        case "full":
            return FullCrossEntropy(config.chunked)
        case "sampled":
            return SampledSoftmax(config, popularity)
        case "gbce":
            return GeneralisedBCE(config.negatives, config.t)


class FullCrossEntropy(nn.Module):
    """Softmax over the whole catalogue; chunked: without the (tokens × items) matrix."""

    def __init__(self, chunked: bool) -> None:
        super().__init__()
        self.chunked = chunked

    def forward(self, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        if self.chunked:
            return chunked_cross_entropy(hidden, weight, targets)
        return F.cross_entropy(_wide(hidden @ _items(hidden, weight).T), targets - 1)


class SampledSoftmax(nn.Module):
    """Softmax over the answer and m negatives that all positions share, drawn from Q with replacement.

    log_q: a negative's logit minus log(m Q), so that the sum over answer and negatives estimates the whole softmax's
    without bias (Bengio & Senécal 2008; Yi et al. 2019); the answer, which is always there, is not corrected. A
    negative that is a position's answer is left out for that position. Q is uniform, or popularity + 1.
    """

    log_expected: Tensor

    def __init__(self, config: LossConfig, popularity: Tensor) -> None:
        super().__init__()
        self.negatives = config.negatives
        self.log_q = config.log_q
        counts = popularity[1:].double() + 1 if config.proposal == "popularity" else torch.ones(len(popularity) - 1)
        log_q = (counts / counts.sum()).log().float()
        self.uniform = config.proposal == "uniform"
        self.register_buffer("cumulated", (counts.cumsum(0) / counts.sum()).double(), persistent=False)
        self.register_buffer("log_expected", log_q + math.log(config.negatives), persistent=False)

    def draw(self, n_items: int, device: torch.device) -> Tensor:
        """(m,) item indices less 1."""
        if self.uniform:
            return torch.randint(n_items, (self.negatives,), device=device)
        assert isinstance(self.cumulated, Tensor)
        at = torch.rand(self.negatives, dtype=torch.float64, device=device)
        return torch.searchsorted(self.cumulated, at, right=True).clamp_(max=n_items - 1)

    def forward(self, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        items, answers = _items(hidden, weight), targets - 1
        drawn = self.draw(len(items), hidden.device)  # (m,)
        against = _wide(hidden @ items[drawn].T)  # (N, m)
        if self.log_q:
            against = against - self.log_expected[drawn]
        against = against.masked_fill(drawn == answers[:, None], -torch.inf)
        wanted = _wide((hidden * items[answers]).sum(dim=1, keepdim=True))
        return (torch.logsumexp(torch.cat([wanted, against], dim=1), dim=1) - wanted[:, 0]).mean()


class GeneralisedBCE(nn.Module):
    """gBCE over k negatives of each position, uniform over all items but the answer (Petrov & Macdonald 2023, gSASRec).

    - (beta log sigmoid(s+) + sum log(1 - sigmoid(s-))) / (k + 1), beta = alpha (t (1 - 1 / alpha) + 1 / alpha) with
    the sampling rate alpha = k / (V - 1) (their eq. 8 to 11); t = 0 is binary cross-entropy, t = 1 calibrates fully.
    """

    def __init__(self, negatives: int, t: float) -> None:
        super().__init__()
        self.negatives = negatives
        self.t = t

    def beta(self, n_items: int) -> float:
        rate = min(1.0, self.negatives / max(n_items - 1, 1))
        return rate * (self.t * (1 - 1 / rate) + 1 / rate)

    def forward(self, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        items, answers = _items(hidden, weight), targets[:, None] - 1
        others = max(len(items) - 1, 1)
        drawn = torch.randint(others, (len(hidden), self.negatives), device=hidden.device)
        drawn += drawn >= answers  # (N, k): never the answer
        if len(items) <= DENSE * self.negatives:
            scores = _wide((hidden @ items.T).gather(1, torch.cat([answers, drawn], dim=1)))
        else:
            scores = _wide(torch.einsum("nd,nkd->nk", hidden, items[torch.cat([answers, drawn], dim=1)]))
        positive = self.beta(len(items)) * F.softplus(-scores[:, 0])
        return ((positive + F.softplus(scores[:, 1:]).sum(dim=1)) / (self.negatives + 1)).mean()


def _items(hidden: Tensor, weight: Tensor) -> Tensor:
    """(V, D) in hidden's dtype, without the padding."""
    return weight[1:].to(hidden.dtype)


def _wide(scores: Tensor) -> Tensor:
    """What is summed over items is summed in fp32 at least."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Each chunk's gradient is formed while its probabilities are still in cache; the backward pass only scales.

    "Fused linear cross-entropy" (Hsu et al. 2024, Liger Kernel), here for CPU and GPU in plain PyTorch.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, chunk: int) -> Tensor:
        items = _items(hidden, weight)
        rows = len(hidden)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        likelihood = torch.empty(rows, dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=wide)
        grad_items = grad_weight[1:]
        # Buffers for all chunks: fresh ones would cost a page fault per 4 KB, a sixth of the step on a CPU.
        shape = (min(chunk, rows), len(items))
        all_logits, all_shares = hidden.new_empty(shape), hidden.new_empty(shape)
        for start in range(0, rows, chunk):
            part = hidden[start : start + chunk]  # (C, D)
            answer = target[start : start + chunk] - 1  # (C,)
            logits, shares = all_logits[: len(part)], all_shares[: len(part)]
            torch.mm(part, items.T, out=logits)
            # One pass that sums in fp32 and rounds once: half the time of max, subtract, exp, sum and divide.
            torch.softmax(logits, dim=1, out=shares)  # (C, V)
            likelihood[start : start + chunk] = shares.gather(1, answer[:, None])[:, 0].to(wide)
            # d loss / d logits = shares - [answer]; the answers' rows are subtracted afterwards, exactly.
            grad_hidden[start : start + chunk] = (shares @ items).to(wide) - items[answer].to(wide)
            grad_items += shares.T @ part  # sums over chunks in fp32
            grad_items.index_add_(0, answer, part.to(wide), alpha=-1)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.rows = rows
        ctx.weight_dtype = weight.dtype
        return _surprise(likelihood, hidden, items, target - 1).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = gradients[0] / ctx.rows
        return (grad_hidden * scale).to(grad_hidden.dtype), (grad_weight * scale).to(ctx.weight_dtype), None, None


def _surprise(likelihood: Tensor, hidden: Tensor, items: Tensor, answer: Tensor) -> Tensor:
    """(N,) -log likelihood, whose rounding is 0.2 % of it in bf16 and evens out over rows.

    Where it underflowed to 0 it is computed again from the logits.
    """
    surprise = -likelihood.log()
    lost = (likelihood == 0).nonzero()[:, 0]
    if len(lost):
        logits = _wide(hidden[lost] @ items.T)
        surprise[lost] = torch.logsumexp(logits, dim=1) - logits.gather(1, answer[lost, None])[:, 0]
    return surprise


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor, chunk: int = CHUNK) -> Tensor:
    """Mean of -log softmax(hidden @ weight[1:].T)[target]; the matrix products run in hidden's dtype."""
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, target, chunk)  # type: ignore[no-untyped-call]
    return loss
