"""Hard negatives: near to the query, and not a right answer that nobody marked."""

import numpy as np
import pandas as pd

from training.negatives import MiningConfig, Texts, mine

TEXTS = ["red desk lamp", "blue desk lamp", "desk of wood", "lamp shade", "garden chair", "lamp for the desk"]
POSITIVE, SAME_KIND, DESK, SHADE, CHAIR, ALL_WORDS = range(6)
QUERY = np.array([[1.0, 0.0]], np.float32)


def towards(cosine: float) -> list[float]:
    """A unit vector of that cosine with the query."""
    return [cosine, (1 - cosine**2) ** 0.5]


def mined(
    cosines: list[float], *, asked: str = "desk lamp", also: tuple[int, ...] = (), group: str = "lamp"
) -> set[str]:
    """The texts that some seed draws as the negative of the first text."""
    vectors = np.array([towards(each) for each in cosines], np.float32)
    over = Texts(TEXTS, vectors, [group, group, "desk", "shade", "chair", "other"])
    rows = pd.DataFrame({"query": asked, "positive": [POSITIVE, *also]})
    found = [
        int(mine(rows, np.repeat(QUERY, len(rows), axis=0), over, MiningConfig(seed=seed, depth=4))[0])
        for seed in range(12)
    ]
    return {TEXTS[at] if at >= 0 else "" for at in found}


def test_candidates_come_from_words_and_from_meaning() -> None:
    """Desk and shade share a word each with the query; texts that hold both words may be right and are left out."""
    assert mined([0.9, 0.8, 0.3, 0.3, 0.0, 0.2]) == {"desk of wood", "lamp shade"}


def test_a_text_nearly_as_close_as_the_positive_may_be_right() -> None:
    """At 0.95 x 0.9 = 0.855 a text is taken for right; just below it, it is the hardest negative."""
    assert mined([0.9, 0.8, 0.86, 0.3, 0.0, 0.2]) == {"lamp shade"}
    assert mined([0.9, 0.8, 0.85, 0.86, 0.0, 0.2]) == {"desk of wood"}


def test_the_positives_own_group_is_judged_more_strictly() -> None:
    """In the positive's group 0.8 x 0.9 = 0.72 is the limit; where no group is known, 0.95 x 0.9 is."""
    cosines = [0.9, 0.75, 0.86, 0.86, 0.0, 0.2]
    assert mined(cosines, asked="light") == {""}
    assert mined(cosines, asked="light", group="") == {"blue desk lamp"}


def test_what_is_known_to_be_right_is_no_negative() -> None:
    """Other positives of the same query are left out; with nothing left there is no negative."""
    assert mined([0.9, 0.8, 0.3, 0.3, 0.0, 0.2], also=(DESK,)) == {"lamp shade"}
    assert mined([0.9, 0.8, 0.3, 0.3, 0.0, 0.2], also=(DESK, SHADE)) == {""}
