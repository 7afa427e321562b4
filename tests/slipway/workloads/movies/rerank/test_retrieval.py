import numpy as np

from slipway.workloads.movies.rerank.retrieval import Source, gather, top, union


def test_top_cuts_ties_by_index_and_leaves_out_padding_never_and_seen() -> None:
    scores = np.array([[9, 1, 3, 3, 3, 2], [9, -np.inf, -np.inf, 5, -np.inf, 4]], dtype=np.float32)
    assert top(scores, 3).tolist() == [[2, 3, 4], [3, 5, 0]]
    assert top(scores, 99, (np.array([0, 1]), np.array([2, 3]))).tolist() == [[3, 4, 5, 1, 0], [5, 0, 0, 0, 0]]
    assert scores[0, 0] == 9  # what came in is as it was


def test_a_union_keeps_the_first_appearance_and_says_who_proposed() -> None:
    ranker, counts, popular = np.array([[5, 2, 0], [1, 0, 0]]), np.array([[2, 7], [0, 0]]), np.array([[7, 5], [1, 3]])
    found = gather([ranker, counts, popular])
    assert found.items.tolist() == [[5, 2, 7], [1, 3, 0]] == union([ranker, counts, popular]).tolist()
    both = Source.RANKER | Source.POPULAR
    assert found.sources.tolist() == [
        [both, Source.RANKER | Source.COUNTS, Source.COUNTS | Source.POPULAR],
        [both, Source.POPULAR, 0],
    ]


def test_no_candidate_at_all_is_one_column_of_padding() -> None:
    assert union([np.zeros((2, 3), dtype=np.int64)]).tolist() == [[0], [0]]
