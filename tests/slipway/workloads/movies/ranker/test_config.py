"""What a configuration refuses, and how a demo's time bounds the epochs."""

import pytest
from pydantic import ValidationError

from slipway.workloads.movies.ranker.config import RankerConfig, TrainConfig


@pytest.mark.parametrize(
    ("events", "epochs"), [(1, 24), (100_000, 24), (125_000, 24), (150_000, 20), (1_000_000, 3), (25_000_000, 1)]
)
def test_epochs_are_cut_to_what_may_pass(events, epochs):
    assert TrainConfig(epochs=24, max_events=3_000_000).affordable(events).epochs == epochs


def test_without_a_bound_all_epochs_are_trained():
    assert TrainConfig(epochs=24).affordable(25_000_000).epochs == 24


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="cannot be divided"):
        RankerConfig(dim=63, heads=2)


def test_a_user_embedding_without_unknown_users_is_refused():
    with pytest.raises(ValidationError, match="cold start"):
        RankerConfig(user_dim=16, keep_user=1)
