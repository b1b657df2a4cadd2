"""The point-in-time join: the newest snapshot of a key at or before a time, unless it is too old."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.offline_store import in_force

HOUR = 3_600_000_000
"""Microseconds."""
KEYS = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(0, 6)


def asked(keys: list[str], times: list[int], wanted: list[str | None], at: list[int], ttl: int | None) -> list[int]:
    """`in_force` with times and ttl in hours."""
    found = in_force(
        pa.chunked_array([pa.array(keys, pa.string())]),
        np.array(times, np.int64) * HOUR,
        pa.array(wanted, pa.string()),
        np.array(at, np.int64) * HOUR,
        None if ttl is None else timedelta(hours=ttl),
    )
    return [int(each) for each in found]


@given(
    st.lists(st.tuples(KEYS, TIMES), unique=True, max_size=15),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "never seen"]), TIMES), max_size=15),
    st.none() | st.integers(0, 4),
)
def test_as_one_would_look_it_up(
    snapshots: list[tuple[str, int]], rows: list[tuple[str, int]], ttl: int | None
) -> None:
    """Against the definition, for keys that come and go, times before the first snapshot and every age."""
    found = asked([k for k, _ in snapshots], [t for _, t in snapshots], [k for k, _ in rows], [t for _, t in rows], ttl)
    for (key, at), row in zip(rows, found, strict=True):
        fitting = [
            (t, i) for i, (k, t) in enumerate(snapshots) if k == key and t <= at and (ttl is None or at - t <= ttl)
        ]
        assert row == max(fitting, default=(0, -1))[1]


@pytest.mark.parametrize(("at", "row"), [(3, 0), (4, -1)], ids=["as old as may be", "an hour older"])
def test_a_snapshot_as_old_as_its_lifetime_counts(at: int, row: int) -> None:
    """The limit belongs to the lifetime, as in Feast."""
    assert asked(["a"], [1], ["a"], [at], 2) == [row]


def test_nothing_of_the_future_and_nothing_without_a_key() -> None:
    """A snapshot of one microsecond later is not seen; a row without key gets nothing."""
    keys, times = pa.chunked_array([["a"]]), np.array([10], np.int64)
    assert in_force(keys, times, pa.array(["a", "a", None]), np.array([9, 10, 10]), None).tolist() == [-1, 0, -1]
