import pytest
import torch
from pydantic import ValidationError

from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import PLAIN_ATTENTION, UNKNOWN_USER, Dropout, Ranker, _attend


def ranker(**different: object) -> Ranker:
    torch.manual_seed(0)
    shape = {"dim": 16, "heads": 2, "max_len": 12, "dropout": 0.0} | different
    model = Ranker(RankerConfig(**shape), n_items=20, n_users=9)
    for parameter in model.parameters():  # larger than at birth, so that a leak would show
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


ITEMS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
USER = torch.tensor([4])
NOBODY = torch.empty(0, dtype=torch.int64)


@pytest.mark.parametrize("user_dim", [0, 8])
def test_a_later_item_changes_nothing_before_it(user_dim: int) -> None:
    model = ranker(user_dim=user_dim)
    changed = ITEMS.clone()
    changed[0, 5] = 17
    before, after = model(ITEMS, USER), model(changed, USER)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


@pytest.mark.parametrize("length", [1, 8, PLAIN_ATTENTION + 1])
@pytest.mark.parametrize("heads", [1, 2])
def test_bf16_attention_is_causal_attention(length: int, heads: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(3, heads, length, 16) for _ in range(3)]
    found, expected = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    value = _attend(*(x.bfloat16() for x in found))
    reference = torch.nn.functional.scaled_dot_product_attention(*expected, is_causal=True)
    torch.testing.assert_close(value.float(), reference, atol=0.03, rtol=0.03)
    value.float().square().sum().backward()
    reference.square().sum().backward()
    for a, b in zip(found, expected, strict=True):
        assert (a.grad - b.grad).norm() <= 0.03 * max(b.grad.norm(), 1)


@pytest.mark.parametrize("user_dim", [0, 8])
def test_bf16_stays_near_fp32(user_dim: int) -> None:
    model = ranker(user_dim=user_dim)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, logits = model(ITEMS, USER), model.newest(ITEMS, USER)
    assert hidden.dtype == torch.bfloat16
    expected = model(ITEMS, USER)
    assert (hidden - expected).norm() < 0.03 * expected.norm()
    assert (logits[:, 1:] - model.newest(ITEMS, USER)[:, 1:]).norm() < 0.03 * model.newest(ITEMS, USER)[:, 1:].norm()


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("user_dim", [0, 8])
def test_newest_is_the_last_position_of_forward(layers: int, user_dim: int) -> None:
    model = ranker(layers=layers, user_dim=user_dim)
    items = torch.tensor([[3, 1, 4, 1], [5, 9, 0, 0], [2, 0, 0, 0]])
    users = torch.tensor([1, 0, 9])
    hidden = model(items, users)[torch.arange(3), torch.tensor([3, 1, 0])]
    logits = model.newest(items, users)
    torch.testing.assert_close(logits[:, 1:], hidden @ model.item.weight[1:].T, atol=1e-4, rtol=1e-4)
    assert (logits[:, 0] == -torch.inf).all()


def test_padding_changes_no_score() -> None:
    model = ranker()
    padded = torch.nn.functional.pad(ITEMS, (0, 4))
    torch.testing.assert_close(model.newest(ITEMS, USER), model.newest(padded, USER), atol=1e-5, rtol=1e-5)


def test_order_matters() -> None:
    model = ranker()
    assert not torch.allclose(model.newest(ITEMS)[:, 1:], model.newest(ITEMS.flip(1))[:, 1:], atol=1e-2)


def test_an_empty_history_gets_finite_scores() -> None:
    assert ranker().newest(torch.zeros((1, 3), dtype=torch.int64))[:, 1:].isfinite().all()


def test_users_are_told_apart_and_no_user_is_the_unknown_one() -> None:
    model = ranker(user_dim=8)
    unknown = model.newest(ITEMS, torch.tensor([UNKNOWN_USER]))
    torch.testing.assert_close(model.newest(ITEMS, None), unknown)
    assert not torch.allclose(model.newest(ITEMS, USER)[:, 1:], unknown[:, 1:], atol=1e-2)


def test_users_whom_training_never_saw_become_unknown() -> None:
    model = ranker(user_dim=8)
    model.make_unknown(torch.tensor([3]), NOBODY)  # index 3 is asked as 4
    torch.testing.assert_close(model.newest(ITEMS, USER), model.newest(ITEMS, None))
    assert not torch.allclose(model.newest(ITEMS, USER + 1)[:, 1:], model.newest(ITEMS, None)[:, 1:], atol=1e-2)


def test_items_that_training_never_saw_say_nothing_in_a_history() -> None:
    model = ranker()
    model.make_unknown(NOBODY, ITEMS[0, -1:])
    before = model.newest(ITEMS)
    with torch.no_grad():
        model.item.weight[ITEMS[0, -1]] += 1
    others = [item for item in range(1, model.n_items + 1) if item != ITEMS[0, -1]]
    torch.testing.assert_close(model.newest(ITEMS)[:, others], before[:, others])
    model.train()  # nobody is a stranger while training
    assert not torch.allclose(model(ITEMS, USER), model.eval()(ITEMS, USER))


def test_shared_embeddings_keep_as_often_as_they_say() -> None:
    model = ranker(user_dim=8, keep_user=0.7, keep_item=0.4)
    items, users = torch.full((4000, 10), 20), torch.full((4000,), 4)
    items[:, 5:] = 0
    shared_items, shared_users = model._share(items, users)
    assert (shared_users == 4).float().mean().item() == pytest.approx(0.7, abs=0.03)
    assert set(shared_users.tolist()) == {4, UNKNOWN_USER}
    # a random item is the same one in 1 of 20 cases
    assert (shared_items[:, :5] == 20).float().mean().item() == pytest.approx(0.4 + 0.6 / 20, abs=0.02)
    assert (shared_items[:, 5:] == 0).all()
    assert shared_items.min() == 0
    assert shared_items.max() == 20
    asked = torch.full((4000, 10), 20)
    asked[:, 5:] = 0
    assert (model.share_targets(asked) == asked).all()  # in evaluation
    shared = model.train().share_targets(asked)
    assert (shared[:, :5] == 20).float().mean().item() == pytest.approx(0.4 + 0.6 / 20, abs=0.02)
    assert (shared[:, 5:] == 0).all()


def test_embeddings_are_shared_in_training_only() -> None:
    model = ranker(user_dim=8, keep_user=0.5, keep_item=0.5)
    torch.testing.assert_close(model(ITEMS, USER), model(ITEMS, USER))
    model.train()
    assert not torch.allclose(model(ITEMS, USER), model(ITEMS, USER))


def test_dropout_keeps_the_expectation_and_rests_in_evaluation() -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 7, requires_grad=True)  # no multiple of 8 elements
    layer = Dropout(0.3)
    y = layer(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    assert layer.eval()(x) is x


@pytest.mark.parametrize("wrong", [{"dim": 15}, {"user_dim": 8, "keep_user": 1.0}, {"dropout": 1.0}, {"depth": 2}])
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RankerConfig(**({"heads": 2} | wrong))
