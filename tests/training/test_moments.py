"""Times as sources spell them."""

from datetime import timedelta

import ibis
import pytest

from data_contracts.lake import connect
from training.moments import UTC_TIME, later, timestamp


def read(spelled: str, zone: str) -> str | None:
    """The instant of a text column's value, as UTC text."""
    con = connect()
    rows = con.create_table("rows", ibis.memtable({"at": [spelled]}))
    found = con.execute(timestamp(rows, "at", zone=zone).cast("string"))[0]
    return None if found is None else str(found).removesuffix("+00")


@pytest.mark.parametrize(
    ("spelled", "in_utc", "in_berlin"),
    [
        ("2024-01-02 03:04:05", "2024-01-02 03:04:05", "2024-01-02 02:04:05"),
        ("2024-01-02T03:04:05.25 ", "2024-01-02 03:04:05.25", "2024-01-02 02:04:05.25"),
        ("2024-01-02", "2024-01-02 00:00:00", "2024-01-01 23:00:00"),
        ("2024-01-02 03:04:05Z", "2024-01-02 03:04:05", "2024-01-02 03:04:05"),
        ("2024-01-02T03:04:05+02:00", "2024-01-02 01:04:05", "2024-01-02 01:04:05"),
        ("2024-01-02 03:04:05+02 ", "2024-01-02 01:04:05", "2024-01-02 01:04:05"),
        ("2024-01-02 03:04:05 America/New_York", "2024-01-02 08:04:05", "2024-01-02 08:04:05"),
        ("2024-01-02 03:04:05 PM", None, None),
        ("yesterday", None, None),
    ],
)
def test_what_a_text_says_of_its_zone_counts_more_than_the_rule(
    spelled: str, in_utc: str | None, in_berlin: str | None
) -> None:
    """A time is read in the rule's zone unless an offset or a zone follows; anything else after it is no time."""
    assert read(spelled, "UTC") == in_utc
    assert read(spelled, "Europe/Berlin") == in_berlin


def test_later_is_exact_and_keeps_nulls() -> None:
    """Microseconds, times before 1970, none at all, and a time without end."""
    con = connect()
    rows = con.create_table(
        "rows", ibis.memtable({"at": ["2024-03-31 00:59:59.999999", "1969-12-31", None, "infinity"]})
    )
    found = con.execute(later(rows.at.cast(UTC_TIME), timedelta(seconds=900)).cast("string"))
    assert [None if each is None else str(each) for each in found] == [
        "2024-03-31 01:14:59.999999+00", "1969-12-31 00:15:00+00", None, None
    ]  # fmt: skip
