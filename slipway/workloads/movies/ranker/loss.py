"""Cross-entropy over the whole catalogue without the (tokens × items) matrix. Knows tensors, no model.

Rows are taken in chunks; each chunk's gradient is formed while its logits are still in cache, so that the backward
pass only scales ("fused linear cross-entropy", Hsu et al. 2024, Liger Kernel; here for CPU and GPU in plain PyTorch).
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256  # rows: 256 × 3,416 logits stay in a core's L2 cache


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, chunk: int) -> Tensor:
        items = weight[1:].to(hidden.dtype)  # (V, D): without the padding, which is thereby outside the softmax
        rows = len(hidden)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_items = grad_weight[1:]
        # Buffers for all chunks: fresh ones would cost a page fault per 4 KB, a sixth of the step on a CPU.
        height, width = min(chunk, rows), len(items)
        all_low = torch.empty((height, width), dtype=hidden.dtype, device=hidden.device)
        all_exp = torch.empty((height, width), dtype=torch.float32, device=hidden.device)
        for start in range(0, rows, chunk):
            part = hidden[start : start + chunk]  # (C, D)
            answer = target[start : start + chunk] - 1  # (C,)
            low, exp = all_low[: len(part)], all_exp[: len(part)]
            torch.mm(part, items.T, out=low)  # (C, V) logits
            largest = low.amax(dim=1, keepdim=True).float()
            exp.copy_(low).sub_(largest).exp_()
            total = exp.sum(dim=1, keepdim=True)  # at least 1
            loss += (largest + total.log() - low.gather(1, answer[:, None]).float()).sum()
            low.copy_(exp)
            # d loss / d logits = exp / total - [answer]. Dividing the (C, D) factors and subtracting the answers'
            # rows afterwards saves two passes over (C, V), and the subtraction is then exact.
            grad_hidden[start : start + chunk] = (low @ items).float() / total - items[answer].float()
            grad_items += low.T @ (part.float() / total).to(hidden.dtype)  # sums over chunks in fp32
            grad_items.index_add_(0, answer, part.float(), alpha=-1)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.rows = rows
        ctx.weight_dtype = weight.dtype
        return loss / rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = gradients[0] / ctx.rows
        return (grad_hidden * scale).to(grad_hidden.dtype), (grad_weight * scale).to(ctx.weight_dtype), None, None


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor, chunk: int = CHUNK) -> Tensor:
    """Mean of -log softmax(hidden @ weight[1:].T)[target], fp32 scalar.

    hidden: (N, D) fp32 or bf16, N >= 1; the matrix products run in its dtype, everything summed over items or chunks
    in fp32. weight: (V + 1, D), row 0 is the padding and gets no probability. target: (N,) int64 in 1..V.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, target, chunk)  # type: ignore[no-untyped-call]
    return loss
