"""Seconds and peak memory of ALS and of the ranker, each in a process of its own, beside implicit used bare."""

import json
import resource
import subprocess
import sys
import time
from typing import Any

from mercato.settings import Settings
from tests.bench.quality import origin

WEEK = 49


def _bare_als(settings: Settings) -> None:
    """What a user would write: pandas counts into implicit's default ALS of the same size."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy import sparse

    from mercato import paths
    from training.fit import MODELS, purchases

    bought = purchases(paths.lake(settings), origin(settings, WEEK))
    counts = bought.groupby(["customer_key", "product_id"]).size().reset_index(name="n")
    users, items = counts["customer_key"].astype("category"), counts["product_id"].astype("category")
    matrix = sparse.csr_matrix((counts["n"].astype("float32"), (users.cat.codes, items.cat.codes)))
    config = MODELS["als"].model_dump()
    AlternatingLeastSquares(
        factors=config["embedding_size"], iterations=config["epochs"], num_threads=1, random_state=0
    ).fit(matrix, show_progress=False)


def _als(settings: Settings) -> None:
    from mercato import paths
    from training.fit import fit_model

    fit_model(paths.lake(settings), "als", origin(settings, WEEK))


def _rankers(settings: Settings) -> None:
    """Both rankers from the rows that the last demo left."""
    from mercato import paths
    from training import jobs, ranker, rows

    lake = paths.lake(settings)
    for config in (ranker.ALL, ranker.NOVEL):
        found, pipeline = rows.load(lake.local(jobs.rows_path(lake, config.goal, origin(settings, WEEK))))
        ranker.train(config, found, pipeline)


STEPS = {"ALS": _als, "implicit used bare": _bare_als, "both rankers, from rows": _rankers}


def measure(_settings: Settings) -> list[dict[str, Any]]:
    """One row per step."""
    found = []
    for what in STEPS:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.bench.training", what],
            capture_output=True,
            text=True,
            check=True,
        )
        found.append({"what": what, **json.loads(done.stdout.splitlines()[-1])})
    return found


if __name__ == "__main__":
    begun = time.monotonic()
    STEPS[sys.argv[1]](Settings())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.monotonic() - begun, "peak_mb": peak}))
