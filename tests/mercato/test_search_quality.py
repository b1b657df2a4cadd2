"""Verdicts on a search index, on scores made by hand."""

import pandas as pd
import pytest

from mercato.search_quality import beats, refuse_worse, summary
from training.errors import IndexNotGood


def scores(*values: float, slice_: str = "head") -> pd.DataFrame:
    """Both readings alike."""
    n = len(values)
    return pd.DataFrame(
        {
            "query": [f"{slice_} {at}" for at in range(n)],
            "slice": [slice_] * n,
            "ndcg_at_10": values,
            "ndcg_judged": values,
            "judged_at_10": [1.0] * n,
            "found": [10] * n,
        }
    )


def test_what_is_learned_ships_only_when_it_gains_beyond_chance() -> None:
    """Ten queries .1 better each: yes. A gain of one query, or none: no."""
    plain = scores(*[0.7] * 10)
    assert beats(scores(*[0.8] * 10), plain)
    assert not beats(scores(0.9, *[0.7] * 9), plain)
    assert not beats(plain, plain)


def test_an_index_below_the_bar_is_refused() -> None:
    """0.65 is the least."""
    refuse_worse(scores(0.66, 0.66), None)
    with pytest.raises(IndexNotGood, match=r"reaches nDCG@10 0\.640"):
        refuse_worse(scores(0.64, 0.64), None)


def test_a_slice_that_loses_beyond_its_interval_is_refused() -> None:
    """The mean may rise: five tail queries that all lose a fifth are named; noise and tiny slices are not."""
    head, tail = scores(*[0.8] * 30), scores(*[0.9] * 5, slice_="tail")
    better, worse = scores(*[0.95] * 30), scores(*[0.7] * 5, slice_="tail")
    with pytest.raises(IndexNotGood, match="slice 'tail'"):
        refuse_worse(pd.concat([better, worse]), pd.concat([head, tail]))
    noise = scores(0.75, 1.0, 0.9, 0.85, 0.95, slice_="tail")
    refuse_worse(pd.concat([better, noise]), pd.concat([head, tail]))
    refuse_worse(pd.concat([better, worse[:4]]), pd.concat([head, tail[:4]]))


def test_a_table_sets_the_served_method_beside_its_rivals() -> None:
    """The gain is paired, with its interval; the served row has none over itself."""
    served, rival = summary({"served": scores(0.9, 0.8), "bm25": scores(0.8, 0.7)}, asked="as written")
    assert served["ndcg_at_10_gain"] is None
    assert rival["ndcg_at_10_gain"] == [0.1, 0.1, 0.1]
