"""Verdicts on a search index, on scores made by hand."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from mercato import search_quality
from mercato.commands.evaluate import evaluate
from mercato.search_quality import ANSWERED, beats, refuse_low, refuse_worse, summary
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
    refuse_low(scores(0.66, 0.66))
    with pytest.raises(IndexNotGood, match=r"reaches nDCG@10 0\.640"):
        refuse_low(scores(0.64, 0.64))


def test_a_slice_that_loses_beyond_its_interval_is_refused() -> None:
    """The mean may rise: five tail queries that all lose a fifth are named; noise and tiny slices are not."""
    head, tail = scores(*[0.8] * 30), scores(*[0.9] * 5, slice_="tail")
    better, worse = scores(*[0.95] * 30), scores(*[0.7] * 5, slice_="tail")
    with pytest.raises(IndexNotGood, match=r"slice 'tail'"):
        refuse_worse(pd.concat([better, worse]), pd.concat([head, tail]))
    noise = scores(0.75, 1.0, 0.9, 0.85, 0.95, slice_="tail")
    refuse_worse(pd.concat([better, noise]), pd.concat([head, tail]))
    refuse_worse(pd.concat([better, worse[:4]]), pd.concat([head, tail[:4]]))


def test_a_loss_over_all_queries_is_refused_though_every_slice_is_too_small() -> None:
    """Four slices of two queries each, all of which lose a tenth."""
    parts = [(scores(0.8, 0.8, slice_=name), scores(0.9, 0.9, slice_=name)) for name in "abcd"]
    new, live = (pd.concat(each) for each in zip(*parts, strict=True))
    with pytest.raises(IndexNotGood, match=r"on all queries the new index loses 0\.100 .* nDCG@10 of judged products"):
        refuse_worse(new, live)


def test_unjudged_products_before_the_judged_ones_must_be_worth_it() -> None:
    """The first page lost its judged products and their order is what it was: refused. Won back in order: not."""
    live = scores(*[0.8] * 10)
    pushed = live.assign(ndcg_at_10=0.0)
    with pytest.raises(IndexNotGood, match=r"all queries .* loses 0\.400 .* the mean of both readings"):
        refuse_worse(pushed, live)
    refuse_worse(live.assign(ndcg_at_10=0.7, ndcg_judged=0.9), live)


def test_more_queries_that_find_nothing_than_chance_has_are_refused() -> None:
    """Five of twenty that were answered find nothing: refused; one of them: not."""
    live = scores(*[1.0] * 20)[["query", "slice"]].assign(answered=1.0)
    for silent in (1, 5):
        new = live.assign(answered=[0.0] * silent + [1.0] * (20 - silent))
        if silent == 1:
            refuse_worse(new, live, ANSWERED)
            continue
        with pytest.raises(IndexNotGood, match=r"loses 0\.250 .* queries answered as they must be"):
            refuse_worse(new, live, ANSWERED)


def test_a_table_sets_the_served_method_beside_its_rivals() -> None:
    """The gain is paired, with its interval; the served row has none over itself."""
    served, rival = summary({"served": scores(0.9, 0.8), "bm25": scores(0.8, 0.7)}, asked="as written")
    assert served["ndcg_at_10_gain"] is None
    assert rival["ndcg_at_10_gain"] == [0.1, 0.1, 0.1]
    (silent,) = summary({"served": scores(0.9, 0.0).assign(found=[10, 0])}, asked="as written")
    assert silent["found_nothing"] == 0.5


def test_the_table_for_people_shows_all_that_the_json_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behaviours and milliseconds stand below the scores."""
    said = {"rows": summary({"served": scores(0.9)}, asked="as written"), "p50_ms": 1.25, "p95_ms": 7.5}
    behaviours = {"typos": "0.929 of 80 queries, needed 0.70"}
    monkeypatch.setattr(search_quality, "evaluate_search", lambda *_: {**said, "behaviours": behaviours})
    done = CliRunner().invoke(evaluate, ["search", "--release", "r", "--table"], catch_exceptions=False)
    assert "served" in done.stdout
    assert behaviours["typos"] in done.stdout
    assert {"1.25", "7.5"} <= set(done.stdout.split())
