import math

import pytest
import torch
import torch.nn.functional as F

from slipway.workloads.movies.ranker.config import LossConfig
from slipway.workloads.movies.ranker.loss import SampledSoftmax, build, chunked_cross_entropy


def inputs(rows: int = 70, items: int = 41, dim: int = 12, spread: float = 3.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, dim, generator=generator) * spread
    weight = torch.randn(items + 1, dim, generator=generator)
    return hidden, weight, torch.randint(1, items + 1, (rows,), generator=generator)


def popularity(items: int = 41) -> torch.Tensor:
    return torch.cat([torch.zeros(1), torch.arange(items).float()])


def plain(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(hidden @ weight[1:].T, target - 1)


def gradients(loss, hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, dtype: torch.dtype):
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = loss(hidden.to(dtype), weight, target)
    (2 * value).backward()  # the factor shows that what comes from above is used
    return value.detach(), hidden.grad, weight.grad


def seeded(config: LossConfig, items: int = 41):
    """The same negatives in every call."""
    loss = build(config, popularity(items))

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return loss(*tensors)

    return call


EVERY = {
    "chunked": LossConfig(),
    "plain": LossConfig(chunked=False),
    "sampled": LossConfig(kind="sampled", negatives=9),
    "uncorrected": LossConfig(kind="sampled", negatives=9, log_q=False),
    "popular": LossConfig(kind="sampled", negatives=9, proposal="popularity"),
    "gbce": LossConfig(kind="gbce", negatives=9),
    "gbce of a large catalogue": LossConfig(kind="gbce", negatives=1),
}
ITEMS = {"gbce of a large catalogue": 100}  # beyond DENSE items per negative: embeddings are fetched one by one


@pytest.fixture(params=EVERY)
def every(request: pytest.FixtureRequest):
    """A loss and its inputs."""
    items = ITEMS.get(request.param, 41)
    return seeded(EVERY[request.param], items), inputs(items=items)


@pytest.mark.parametrize("chunk", [1, 16, 64, 70, 1000])
def test_equals_plain_cross_entropy_in_fp32(chunk: int) -> None:
    expected = gradients(plain, *inputs(), torch.float32)
    found = gradients(lambda *a: chunked_cross_entropy(*a, chunk), *inputs(), torch.float32)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_both_ways_of_the_full_softmax_agree() -> None:
    for a, b in zip(
        gradients(build(LossConfig(), popularity()), *inputs(), torch.float32),
        gradients(build(LossConfig(chunked=False), popularity()), *inputs(), torch.float32),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_bf16_stays_near_fp32() -> None:
    value, hidden, weight = gradients(lambda *a: chunked_cross_entropy(*a, 16), *inputs(rows=500), torch.bfloat16)
    expected, expected_hidden, expected_weight = gradients(plain, *inputs(rows=500), torch.float32)
    assert value.dtype == torch.float32
    assert abs(value - expected) < 0.01 * expected
    assert (hidden - expected_hidden).norm() < 0.02 * expected_hidden.norm()
    assert (weight - expected_weight).norm() < 0.02 * expected_weight.norm()


def test_every_loss_is_fp32_of_bf16_products(every) -> None:
    loss, (hidden, weight, target) = every
    value = loss(hidden.bfloat16(), weight, target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(hidden, weight, target).item(), rel=0.02)


def test_gradients_are_the_derivative(every) -> None:
    loss, (hidden, weight, target) = every
    hidden, weight = hidden[:5].double().requires_grad_(), weight.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda h, w: loss(h, w, target[:5]).double(), (hidden, weight), fast_mode=True)


def test_padding_has_no_probability_and_no_gradient(every) -> None:
    loss, (hidden, weight, target) = every
    before = loss(hidden, weight, target)
    weight[0] = 1e3  # would take all probability
    value, _, gradient = gradients(loss, hidden, weight, target, torch.float32)
    assert value == before
    assert (gradient[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_logits_do_not_overflow(dtype: torch.dtype) -> None:
    hidden, weight, target = inputs(spread=1e4)
    expected = plain(hidden.to(dtype), weight.to(dtype), target).float()
    found = chunked_cross_entropy(hidden.to(dtype), weight, target)
    torch.testing.assert_close(found, expected, rtol=1e-5 if dtype is torch.float32 else 1e-2, atol=0)


@pytest.mark.parametrize("proposal", ["uniform", "popularity"])
@pytest.mark.parametrize("log_q", [True, False])
def test_sampled_softmax_is_the_formula(proposal: str, log_q: bool) -> None:
    config = LossConfig(kind="sampled", negatives=30, log_q=log_q, proposal=proposal)
    hidden, weight, target = inputs()
    loss = build(config, popularity())
    assert isinstance(loss, SampledSoftmax)
    torch.manual_seed(5)
    drawn = loss.draw(41, hidden.device) + 1
    q = (popularity()[1:] + 1) / (popularity()[1:] + 1).sum() if proposal == "popularity" else torch.full((41,), 1 / 41)
    values, hits = [], 0
    for h, answer in zip(hidden, target.tolist(), strict=True):
        total = math.exp(h @ weight[answer])
        for item in drawn.tolist():
            hits += item == answer
            if item != answer:
                total += math.exp(h @ weight[item]) / (30 * q[item - 1].item() if log_q else 1)
        values.append(math.log(total) - (h @ weight[answer]).item())
    assert hits  # else nothing shows that they are left out
    assert seeded(config)(hidden, weight, target).item() == pytest.approx(sum(values) / len(values), rel=1e-4)


@pytest.mark.parametrize("proposal", ["uniform", "popularity"])
def test_corrected_sampling_estimates_the_full_softmax(proposal: str) -> None:
    config = LossConfig(kind="sampled", negatives=20_000, proposal=proposal)
    hidden, weight, target = inputs(spread=0.5)
    full = plain(hidden, weight, target).item()
    assert seeded(config)(hidden, weight, target).item() == pytest.approx(full, rel=0.01)
    wrong = seeded(config.model_copy(update={"log_q": False}))(hidden, weight, target).item()
    assert wrong > full + 1


def test_popular_items_are_drawn_as_often_as_q_says() -> None:
    loss = build(LossConfig(kind="sampled", negatives=50_000, proposal="popularity"), popularity())
    assert isinstance(loss, SampledSoftmax)
    torch.manual_seed(0)
    found = torch.bincount(loss.draw(41, torch.device("cpu")), minlength=41) / 50_000
    expected = (popularity()[1:] + 1) / (popularity()[1:] + 1).sum()
    assert (found - expected).abs().max() < 0.005


@pytest.mark.parametrize(("items", "negatives"), [(41, 9), (200, 3), (9, 60)])
@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_the_formula(items: int, negatives: int, t: float) -> None:
    hidden, weight, target = inputs(items=items, spread=1)
    found = seeded(LossConfig(kind="gbce", negatives=negatives, t=t), items)(hidden, weight, target)
    torch.manual_seed(5)
    drawn = torch.randint(items - 1, (len(hidden), negatives)) + 1
    drawn += drawn >= target[:, None]
    assert not (drawn == target[:, None]).any()
    alpha = min(negatives / (items - 1), 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    scores = (hidden @ weight.T).gather(1, torch.cat([target[:, None], drawn], dim=1)).double()
    chances = scores.sigmoid()
    terms = beta * chances[:, 0].log() + (1 - chances[:, 1:]).log().sum(dim=1)
    assert found.item() == pytest.approx(-terms.mean().item() / (negatives + 1), rel=1e-4)
    if t == 0:
        labels = F.one_hot(torch.zeros(len(hidden), dtype=torch.int64), negatives + 1).double()
        assert found.item() == pytest.approx(F.binary_cross_entropy_with_logits(scores, labels).item(), rel=1e-4)


def test_negatives_follow_the_seed(every) -> None:
    loss, tensors = every
    assert loss(*tensors) == loss(*tensors)
