import pytest
import torch
import torch.nn.functional as F

from slipway.workloads.movies.ranker.loss import chunked_cross_entropy


def inputs(rows: int = 70, items: int = 41, dim: int = 12, spread: float = 3.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, dim, generator=generator) * spread
    weight = torch.randn(items + 1, dim, generator=generator)
    return hidden, weight, torch.randint(1, items + 1, (rows,), generator=generator)


def plain(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(hidden @ weight[1:].T, target - 1)


def gradients(loss, hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, dtype: torch.dtype):
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = loss(hidden.to(dtype), weight, target)
    (2 * value).backward()  # the factor shows that what comes from above is used
    return value.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("chunk", [1, 16, 64, 70, 1000])
def test_equals_plain_cross_entropy_in_fp32(chunk: int) -> None:
    expected = gradients(plain, *inputs(), torch.float32)
    found = gradients(lambda *a: chunked_cross_entropy(*a, chunk), *inputs(), torch.float32)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_bf16_stays_near_fp32() -> None:
    value, hidden, weight = gradients(lambda *a: chunked_cross_entropy(*a, 16), *inputs(rows=500), torch.bfloat16)
    expected, expected_hidden, expected_weight = gradients(plain, *inputs(rows=500), torch.float32)
    assert value.dtype == torch.float32
    assert abs(value - expected) < 0.01 * expected
    assert (hidden - expected_hidden).norm() < 0.02 * expected_hidden.norm()
    assert (weight - expected_weight).norm() < 0.02 * expected_weight.norm()


def test_gradients_are_the_derivative() -> None:
    hidden, weight, target = (t.double() if t.is_floating_point() else t for t in inputs(rows=5, items=7, dim=3))

    def loss(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return chunked_cross_entropy(h, w, target, 2).double()

    hidden.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(loss, (hidden, weight), eps=1e-3, atol=1e-3)


def test_padding_has_no_probability_and_no_gradient() -> None:
    hidden, weight, target = inputs()
    weight[0] = 1e3  # would take all probability
    _, _, gradient = gradients(chunked_cross_entropy, hidden, weight, target, torch.float32)
    torch.testing.assert_close(chunked_cross_entropy(hidden, weight, target), plain(hidden, weight, target))
    assert (gradient[0] == 0).all()


def test_huge_logits_do_not_overflow() -> None:
    hidden, weight, target = inputs(spread=1e4)
    torch.testing.assert_close(chunked_cross_entropy(hidden, weight, target), plain(hidden, weight, target))
