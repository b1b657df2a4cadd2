"""Categories on the first page of a broad query. Pure."""

from collections import Counter
from itertools import takewhile
from typing import Final

import numpy as np
from numpy.typing import NDArray

FIRST: Final = 10
"""Places of the first page."""
MOST: Final = 7
"""Of those, what one category holds at most while others are nearly as good: about two thirds, so that the page still
shows what the query was taken for. Judged, not measured."""
NEAR: Final = 0.05
"""How far below the product whose place it takes another may score, in ranges of the scores."""

Positions = NDArray[np.int64]


def spread(
    order: Positions, scores: NDArray[np.float32], category: NDArray[np.str_], fixed: NDArray[np.bool_]
) -> Positions:
    """The order with at most MOST of one category among the first, where others score nearly as high.

    Args:
        order: (n,) positions, best first.
        scores: by position.
        category: by position; empty where it is unknown, which counts as none.
        fixed: by position, whether it stays where it is.
    """
    first, rest = order[:FIRST].tolist(), order[FIRST:].tolist()
    named = Counter(name for name in category[first].tolist() if name)
    if not named or not rest:
        return order
    [(most, held)] = named.most_common(1)
    if held <= MOST:
        return order
    places = [place for place, at in enumerate(first) if category[at] == most and not fixed[at]][MOST - held :]
    others = [at for at in rest if category[at] not in ("", most) and not fixed[at]]
    near = NEAR * float(np.ptp(scores))
    pairs = zip(reversed(places), others, strict=False)
    n = sum(1 for _ in takewhile(lambda pair: scores[pair[1]] >= scores[first[pair[0]]] - near, pairs))
    moved = [first[place] for place in places[len(places) - n :]]
    for place, other in zip(places[len(places) - n :], others, strict=False):
        first[place] = other
    taken = set(first)
    return np.array([*first, *moved, *(at for at in rest if at not in taken)], dtype=np.int64)
