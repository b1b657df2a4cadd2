"""Online reads never fail and never mix two snapshots, whatever a materialisation does."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_contracts import partitions
from feature_repo import config, store
from feature_repo.errors import SnapshotMismatch
from feature_repo.online import OnlineReader
from feature_repo.views import VIEWS
from feature_repo.writer import arrow_schema, put, write_snapshots, written
from mercato.errors import StoreUnavailable
from mercato.paths import Lake
from mercato.settings import Settings
from tests.feature_repo.clean_sample import DAY, WEEK, T

CHILD = """
import os, signal
from datetime import datetime
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feature_repo import config, store
from mercato.settings import Settings

config._WRITE_BATCH = 16  # several transactions for few customers
settings, at, then = Settings(), *(datetime.fromisoformat(os.environ[name]) for name in ("AT", "THEN"))
for _ in range(3):
    store.materialize(settings, at, at)
print("whole", flush=True)
write, batches = SqliteOnlineStore.online_write_batch, []

def dying(rows):
    for number, row in enumerate(rows):
        if len(batches) == 3 and number == 8:
            os.kill(os.getpid(), signal.SIGKILL)  # in the middle of an open transaction
        yield row

def write_and_die(self, config, table, data, progress):
    batches.append(1)
    write(self, config, table, dying(data), progress)

SqliteOnlineStore.online_write_batch = write_and_die
store.materialize(settings, then, then)
"""


def same(left: Any, right: Any) -> bool:
    return np.array_equal(left, right) if isinstance(left, (list, np.ndarray)) else bool(left == right)


def expected(lake: Lake, view: str) -> dict[int, dict[str, dict[str, Any]]]:
    """T (epoch seconds) -> key -> row, of each snapshot of `view`."""
    rows = {}
    for snapshot in written(lake, view):
        table = pq.read_table(snapshot.path).to_pylist()
        rows[int(snapshot.at.timestamp())] = {row[VIEWS[view].key]: row for row in table}
    return rows


class Hammer(threading.Thread):
    """Reads all customers round and round; keeps each failure and each snapshot time that it saw."""

    def __init__(self, settings: Settings, snapshots: dict[int, dict[str, dict[str, Any]]]) -> None:
        super().__init__()
        self.reader, self.snapshots = OnlineReader(settings), snapshots
        self.stop = threading.Event()
        self.reads, self.seen, self.wrong = 0, set[int](), list[str]()

    def run(self) -> None:
        keys = sorted(self.snapshots[int(T.timestamp())])
        while not self.stop.is_set():
            for key in keys:
                self.read(key)
                time.sleep(0.002)  # two hot loops would starve the child of the two cores it shares

    def read(self, key: str) -> None:
        self.reads += 1
        try:
            row = self.reader.customer(key)
        except Exception as error:  # noqa: BLE001 - any failure of a read is what this test is about
            self.wrong.append(repr(error))
            return
        if row is None:
            self.wrong.append(f"{key} is gone")
            return
        whole = self.snapshots[row["snapshot_at"]][key]
        self.seen.add(row["snapshot_at"])
        self.wrong += [
            f"{key} {name}" for name in VIEWS["customer_history"].columns if not same(row[name], whole[name])
        ]


def test_reads_go_on_during_materialisations_and_after_one_was_killed(online: Settings, lake: Lake) -> None:
    """While another process materialises and is then killed with -9 inside a transaction, no read fails, each row is
    of one snapshot, and Feast's own `get_online_features` and the next materialisation work afterwards.
    """
    write_snapshots(lake, T + DAY)
    first, second, third = (int(at.timestamp()) for at in (T, T + DAY, T + WEEK))
    hammers = [Hammer(online, expected(lake, "customer_history")) for _ in range(2)]
    for hammer in hammers:
        hammer.start()
    environment = {"MERCATO_HOME": str(online.root), "AT": (T + DAY).isoformat(), "THEN": (T + WEEK).isoformat()}
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    time.sleep(0.5)
    for hammer in hammers:
        hammer.stop.set()
        hammer.join()
    assert (child.returncode, child.stdout.strip()) == (-signal.SIGKILL, "whole"), child.stderr
    assert [hammer.wrong for hammer in hammers] == [[], []]
    assert min(hammer.reads for hammer in hammers) > 100
    assert {first, second, third} <= hammers[0].seen | hammers[1].seen

    feast = store.FeatureStore(config=config.repo_config(online))
    key = next(iter(hammers[0].snapshots[first]))
    served = feast.get_online_features(["customer_history:snapshot_at"], [{"customer_key": key}]).to_dict()
    assert served["snapshot_at"][0] in {second, third}

    store.materialize(online, T + WEEK, T + WEEK)
    read = OnlineReader(online).customer(key)
    assert read is not None
    assert read["snapshot_at"] == third


def test_an_unknown_customer_has_no_features(online: Settings) -> None:
    """A customer that no snapshot holds reads as None, not as an error."""
    assert OnlineReader(online).customer("c-never-seen") is None


def test_a_store_that_was_never_made_is_unavailable(settings: Settings) -> None:
    """Before anything was registered a read raises a retryable error that names the next step."""
    with pytest.raises(StoreUnavailable, match="materialize_features"):
        OnlineReader(settings).customer("c1")


def test_a_row_from_before_a_feature_existed_is_refused(online: Settings, lake: Lake) -> None:
    """A stored row without one of the view's features names that feature instead of serving a default."""
    key = next(iter(expected(lake, "customer_profile")[int(T.timestamp())]))
    with sqlite3.connect(online.root / "online.db") as database:
        database.execute("DELETE FROM complete_journey_customer_profile WHERE feature_name = 'recency_days'")
    database.close()
    with pytest.raises(SnapshotMismatch, match="customer_profile lacks recency_days: run materialize_features"):
        OnlineReader(online).customer(key)


def test_threads_share_one_reader(online: Settings, lake: Lake) -> None:
    """Eight threads that read different customers through one reader each get their own."""
    rows = expected(lake, "customer_history")[int(T.timestamp())]
    reader, wrong = OnlineReader(online), []

    def read(keys: list[str]) -> None:
        for key in keys * 3:
            row = reader.customer(key)
            if row is None or row["product_ids"] != rows[key]["product_ids"]:
                wrong.append(key)

    threads = [threading.Thread(target=read, args=(sorted(rows)[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_empty_snapshot_materialises_to_nothing(online: Settings, lake: Lake) -> None:
    """A day without any customer is written, materialised as 0 rows, and leaves what was online."""
    key = next(iter(expected(lake, "customer_history")[int(T.timestamp())]))
    with partitions.writing(lake) as aside:
        for name in ("customer_history", "customer_profile"):
            put(lake, aside, VIEWS[name], arrow_schema(VIEWS[name]).empty_table(), T + DAY)
    assert [done.rows for done in store.materialize(online, T + DAY, T + DAY)] == [0, 0]
    assert OnlineReader(online).customer(key) is not None
