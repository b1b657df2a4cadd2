"""The step log: work that is done stays done, whatever becomes of the note about it."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores import steps

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)


def work(settings: Settings) -> str:
    """One timed step."""
    with steps.timed(settings, "extract", "products", AT, AT + timedelta(days=1), code_revision="x"):
        return "done"


def test_a_damaged_step_log_does_not_undo_the_work(tmp_path: Path) -> None:
    """The step ends well; who reads the log is told which file is no database."""
    settings = Settings(home=tmp_path)
    (tmp_path / "steps.db").write_bytes(b"no database at all" * 100)
    assert work(settings) == "done"
    with pytest.raises(StoreUnavailable, match=r"cannot open the store .*steps.db: file is not a database"):
        steps.finished(settings, "extract", "products")


def test_a_note_that_cannot_be_written_does_not_undo_the_work(tmp_path: Path) -> None:
    """The table is gone, as after another program wrote to the file: the next step ends well all the same."""
    settings = Settings(home=tmp_path)
    work(settings)
    assert [each.days for each in steps.finished(settings, "extract", "products")] == [1.0]
    with sqlite3.connect(tmp_path / "steps.db") as connection:
        connection.execute("ALTER TABLE steps RENAME TO others")
    connection.close()
    assert work(settings) == "done"
