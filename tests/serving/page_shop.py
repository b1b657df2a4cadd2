"""A shop to look at: the small release with its runs named, the demo's files beside it, behind the real gateway."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from data_contracts.artefact_store import ArtefactStore
from data_contracts.release import Manifest, Provenance
from mercato import paths
from mercato.settings import Settings
from serving.app import create_app
from serving.door import Door
from serving.gateway import Gateway
from serving.online import Reader
from tests.feature_repo.clean_sample import T
from tests.serving.conftest import wait_ready
from tests.serving.small_release import HOUSEHOLDS

KNOWN = HOUSEHOLDS[0]
RUN = "0123456789abcdef0123456789abcdef"
DAG_RUN = "train_als/manual__2017-12-04T05:00:00+00:00"
EVALUATION = {
    "as_of": T.isoformat(),
    "truth": "purchases of the four weeks after",
    "rows": [
        {"goal": "all", "slice": "every household", "method": "served", "ndcg_at_10": 0.425, "recall_at_10": 0.11,
         "hit_at_10": 0.9, "interval": [0.412, 0.438], "served_gain": None, "households": 2000},
        {"goal": "all", "slice": "every household", "method": "frequency", "ndcg_at_10": 0.397, "recall_at_10": 0.1,
         "hit_at_10": 0.89, "interval": [0.384, 0.41], "served_gain": [0.028, 0.024, 0.032], "households": 2000},
    ],
}  # fmt: skip


def settle(built: tuple[Path, str], home: Path, later: list[str]) -> Settings:
    """A copy of the built home with runs in the manifest, an evaluation, and what the demo writes.

    Args:
        built: home and release id of the small release.
        home: where the copy goes.
        later: held-out truth of household KNOWN.
    """
    shutil.copytree(built[0], home)
    settings = Settings(home=home)
    lake = paths.lake(settings)
    store = ArtefactStore(lake)
    found = store.release(built[1])
    provenance = Provenance(
        runs=dict.fromkeys(found.identity.artefacts, RUN),
        snapshots={"transactions": "ab" * 32},
        fit_until=T,
        code_revision="abcdef123456+0123456789ab",
        dag_runs=dict.fromkeys(found.identity.artefacts, DAG_RUN),
    )
    lake.write_json(lake.path("releases", f"{built[1]}.json"), Manifest.of(found.identity, provenance).to_json())
    lake.write_json(lake.path("releases", "evaluations", f"{built[1]}.json"), EVALUATION)
    (home / "demo").mkdir()
    ids = [*HOUSEHOLDS, *(str(9000 + i) for i in range(200))]
    listed = [
        {"customer_id": each, "n_baskets": 5, "label": f"household {each}, 5 baskets", "later": later} for each in ids
    ]
    (home / "demo" / "households.json").write_text(json.dumps(listed))
    links = {"airflow": "http://127.0.0.1:1", "mlflow": "http://127.0.0.1:2/", "drift_reports": "javascript:alert(1)"}
    (home / "demo" / "links.json").write_text(json.dumps(links))
    return settings


@contextmanager
def served(settings: Settings, reader: Reader | None = None) -> Iterator[str]:
    """The address of a gateway over these settings, while it listens on loopback."""
    held = Gateway.open(settings, reader=reader)
    wait_ready(held)
    with listening(create_app(lambda: held, page=True)) as url:
        yield url
    held.close()


@contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The address of an app behind our door."""
    config = uvicorn.Config(Door(app), host="127.0.0.1", port=port, log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
