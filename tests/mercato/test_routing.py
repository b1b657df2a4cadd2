"""The routing document: append-only generations that a lost update cannot overwrite."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mercato.errors import StaleGeneration
from mercato.stores.routing import TOTAL_WEIGHT, RoutingDocument, RoutingStore

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> RoutingStore:
    return RoutingStore(f"sqlite:///{tmp_path}/deep/routing.db")


def write(store: RoutingStore, seen: int, release: str, at: datetime = AT) -> RoutingDocument:
    return store.write("shop", seen=seen, weights={release: TOTAL_WEIGHT}, salt="s", reason="test", at=at)


def test_before_the_first_release_nothing_is_live(store: RoutingStore) -> None:
    """A shop without a release has no document, and that is not an error."""
    assert store.live("shop") is None


def test_generations_count_up_and_the_past_stays_readable(store: RoutingStore) -> None:
    """`live --at T` answers what was live at T."""
    write(store, 0, "r-1")
    write(store, 1, "r-2", AT + timedelta(hours=1))
    live = store.live("shop")
    assert live is not None
    assert (live.generation, live.weights) == (2, {"r-2": TOTAL_WEIGHT})
    then = store.live("shop", at=AT + timedelta(minutes=59))
    assert then is not None
    assert then.weights == {"r-1": TOTAL_WEIGHT}
    assert store.live("shop", at=AT - timedelta(seconds=1)) is None
    assert store.live("other") is None


def test_a_writer_who_saw_an_older_generation_is_refused(store: RoutingStore) -> None:
    """Lost update -> no transition."""
    write(store, 0, "r-1")
    with pytest.raises(StaleGeneration, match="generation 1, the writer had seen 0"):
        write(store, 0, "r-2")


def test_of_two_writers_at_once_one_wins(tmp_path: Path) -> None:
    """Eight writers that saw generation 0 leave exactly one generation 1."""
    url = f"sqlite:///{tmp_path}/routing.db"
    RoutingStore(url).live("shop")

    def attempt(number: int) -> bool:
        try:
            write(RoutingStore(url), 0, f"r-{number}")
        except StaleGeneration:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    live = RoutingStore(url).live("shop")
    assert live is not None
    assert live.generation == 1


def test_weights_must_be_whole(store: RoutingStore) -> None:
    """Weights that do not add up to all buckets are refused."""
    with pytest.raises(ValueError, match="add up"):
        store.write("shop", seen=0, weights={"r-1": 9_999}, salt="s", reason="x", at=AT)
