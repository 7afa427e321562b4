import numpy as np
import torch

from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.ranker.scorer import CASES, RankerScorer


def scorer(chain: Interactions) -> RankerScorer:
    torch.manual_seed(0)
    config = RankerConfig(dim=16, heads=2, max_len=10, user_dim=4)
    model = Ranker(config, chain.n_items, chain.n_users)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return RankerScorer(model)


def test_each_case_is_scored_by_its_own_newest_items(chain: Interactions) -> None:
    positions = np.random.default_rng(0).permutation(len(chain.items))[: 3 * CASES + 5]
    ranker = scorer(chain)
    found = ranker.score(chain, positions)
    assert found.dtype == np.float32
    for row in range(0, len(positions), 17):
        p = positions[row]
        user = int(chain.users[p])
        history = chain.items[max(chain.indptr[user], p - 10) : p].astype(np.int64)
        items = torch.from_numpy(history if len(history) else np.zeros(1, dtype=np.int64))[None]
        with torch.no_grad():
            expected = ranker.model.eval().newest(items, torch.tensor([user + 1]))[0].numpy()
        np.testing.assert_allclose(found[row, 1:], expected[1:], atol=1e-4)


def test_the_answer_and_what_follows_it_are_not_looked_at(chain: Interactions) -> None:
    p = int(chain.indptr[3]) + 12
    items = chain.items.copy()
    items[p:] = items[p:] % chain.n_items + 1
    other = Interactions(chain.indptr, items, chain.times, chain.user_ids, chain.item_ids)
    ranker = scorer(chain)
    np.testing.assert_array_equal(ranker.score(chain, np.array([p])), ranker.score(other, np.array([p])))


def test_training_mode_is_given_back(chain: Interactions) -> None:
    ranker = scorer(chain)
    ranker.model.train()
    ranker.score(chain, np.array([5]))
    assert ranker.model.training
