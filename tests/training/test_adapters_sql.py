"""A database as a source: bounded by the watermark, streamed, and nothing lost or doubled at a boundary."""

import random
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from data_contracts.errors import SchemaMismatch, SourceMissing
from data_contracts.lake import connect, verify
from data_contracts.partitions import manifests
from data_contracts.shop import Shop
from tests.forks import PUT_IN_PLACE, killed
from tests.lake_maker import MONDAY, finished, make_lake, tree
from tests.postgres import postgres
from tests.training.sources import BILLS, cleaned, cleaned_from_parquet, raw, run, shop_of
from training.adapters import open_source, sql
from training.adapters.watermark import Watermark
from training.errors import SourceDown

COLUMNS = {"id": "integer", "amount": "number", "note": "string", "paid": "timestamp", "updated_at": "timestamp"}
RULES = {
    "columns": COLUMNS,
    "event_time": {"timestamp": "paid"},
    "known_at": {"column": "updated_at", "overlap": "PT1H", "reason": "the till's database stamps each row"},
    "mapping": {"basket_id": "id"},
}
SECRET = "hidden"
TUESDAY = MONDAY + timedelta(days=1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def bills(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """An empty table of bills, and its URL in the environment."""
    monkeypatch.setenv("TILLS_URL", server)
    engine = sa.create_engine(server, poolclass=sa.NullPool)
    with engine.begin() as made:
        made.execute(sa.text("DROP TABLE IF EXISTS bills"))
        made.execute(
            sa.text(
                "CREATE TABLE bills "
                "(id bigint, amount numeric(12, 2), note text, paid timestamp, updated_at timestamptz)"
            )
        )
    yield engine
    engine.dispose()


def shop(**source: Any) -> Shop:
    return shop_of({"kind": "sql", "url_env": "TILLS_URL", **(source or {"table": "public.bills"})}, **RULES)


def add(connection: sa.Connection, number: int, at: datetime) -> None:
    connection.execute(
        sa.text("INSERT INTO bills VALUES (:id, 1.50, 'n', :paid, :at)"),
        {"id": number, "paid": at.replace(tzinfo=None) - timedelta(minutes=1), "at": at},
    )


def known(folder: Path) -> list[tuple[int, datetime]]:
    return [(row["id"], row["known_at"]) for row in raw(folder)]


def test_a_row_that_becomes_visible_late_is_taken_once(tmp_path: Path, bills: sa.Engine) -> None:
    """A long transaction stamps 23:50 on Monday and commits after Monday was read: Tuesday's overlap takes it, from
    midnight on; running either day again changes nothing.
    """
    inside = TUESDAY - timedelta(minutes=10)
    slow = bills.connect()
    add(slow, 2, inside)
    with bills.begin() as quick:
        add(quick, 1, inside - timedelta(minutes=1))
        add(quick, 3, TUESDAY)
    assert run(tmp_path, shop()).rows == 1
    slow.commit()
    slow.close()
    run(tmp_path, shop(), TUESDAY)
    assert known(tmp_path) == [(1, inside - timedelta(minutes=1)), (2, TUESDAY), (3, TUESDAY)]
    before = tree(make_lake(tmp_path))
    run(tmp_path, shop(), TUESDAY)
    assert run(tmp_path, shop()).new_rows == 0
    assert tree(make_lake(tmp_path)) == before


def test_a_killed_extraction_resumes(tmp_path: Path, bills: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 after any chunk or partition written aside: nothing is in place; then after any file that came into
    place: no partition is half; the next run makes the same bytes as one that nobody killed.
    """
    with bills.begin() as made:
        for number in range(24):
            add(made, number, MONDAY + timedelta(hours=3 * number, minutes=1))
    monkeypatch.setattr(sql, "CHUNK_ROWS", 5)
    calls = (sql, "_table"), (Path, "write_bytes"), PUT_IN_PLACE
    before, files = 5 + 3, 2 * 3
    run(tmp_path / "clean", shop(), n=3)
    lake = make_lake(tmp_path / "killed")
    for after in (random.randint(1, before), random.randint(before + 1, before + files)):
        assert killed(lambda: run(tmp_path / "killed", shop(), n=3), after, *calls) == -9, after
        assert bool(finished(lake)) is (after > before), after
        verify(lake, "transactions", layer="raw")
    run(tmp_path / "killed", shop(), n=3)
    assert finished(lake) == tree(make_lake(tmp_path / "clean"))


def test_days_in_any_order_and_a_quiet_day_lose_and_double_nothing(tmp_path: Path, bills: sa.Engine) -> None:
    """Tuesday read before Monday leaves Monday's rows to Monday; a row late for a day without any is still taken."""
    with bills.begin() as made:
        add(made, 1, TUESDAY - timedelta(minutes=5))
        add(made, 2, TUESDAY + timedelta(hours=2))
    run(tmp_path, shop(), TUESDAY)
    run(tmp_path, shop())
    assert [number for number, _ in known(tmp_path)] == [1, 2]
    wednesday = TUESDAY + timedelta(days=1)
    run(tmp_path, shop(), wednesday)
    assert [each.rows for each in manifests(make_lake(tmp_path), "raw", "transactions")] == [1, 1]
    with bills.begin() as made:
        add(made, 3, wednesday + timedelta(hours=23, minutes=30))
    run(tmp_path, shop(), wednesday + timedelta(days=1))
    assert known(tmp_path)[-1] == (3, wednesday + timedelta(days=1))


def test_the_window_is_asked_of_the_database_with_bound_values(tmp_path: Path, bills: sa.Engine) -> None:
    """Of many days only the window and its overlap travel, in a statement without literals, chunk by chunk."""
    with bills.begin() as made:
        made.execute(
            sa.text(
                "INSERT INTO bills SELECT i, i, 'n', t, t FROM (SELECT i, timestamptz '2017-03-01 00:00Z' + "
                "i * interval '10 seconds' AS t FROM generate_series(0, 99999) i) AS each"
            )
        )
    source = open_source(shop().table("transactions"), tmp_path)
    rows = source.relation(connect(), MONDAY - timedelta(hours=1), MONDAY + timedelta(days=3))
    assert rows.count().execute() == 73 * 360
    [staged] = tmp_path.glob("*.parquet")
    assert pq.read_metadata(staged).num_row_groups == -(-73 * 360 // sql.CHUNK_ROWS)


def test_a_query_is_bounded_from_outside(tmp_path: Path, bills: sa.Engine) -> None:
    """A SELECT of the retailer's own, casts and all, reads the same rows as the table; a delay moves the window."""
    with bills.begin() as made:
        add(made, 1, MONDAY + timedelta(minutes=1))
        add(made, 2, TUESDAY)
    query = "SELECT id, amount, note::text AS note, paid, updated_at FROM bills WHERE amount > 0;"
    assert run(tmp_path / "a", shop(query=query)).rows == 1
    delayed = {**RULES, "known_at": {"delay": "PT15M", "reason": "test"}}
    by_event = shop_of({"kind": "sql", "url_env": "TILLS_URL", "table": "bills"}, **delayed)
    assert run(tmp_path / "b", by_event).rows == 1
    assert known(tmp_path / "b") == [(1, MONDAY + timedelta(minutes=15))]


@pytest.mark.parametrize(
    ("change", "source", "refusal"),
    [
        ("ALTER TABLE bills ADD tip int", {}, (SchemaMismatch, "unknown column 'tip'")),
        ("ALTER TABLE bills DROP note", {}, (SchemaMismatch, "missing column 'note'")),
        ("ALTER TABLE bills ALTER id TYPE text", {}, (SchemaMismatch, "'id' is string, need integer")),
        ("SELECT 1", {"table": "bils"}, (SourceMissing, 'relation "bils" does not exist')),
        ("SELECT 1", {"query": "SELEC 1"}, (SourceMissing, "syntax error")),
        (
            "INSERT INTO bills VALUES (2, 1, 'n', now(), NULL)",
            {},
            (SchemaMismatch, "1 rows .* at which they were"),
        ),
    ],
)
def test_a_changed_database_is_named(
    tmp_path: Path, bills: sa.Engine, change: str, source: dict[str, str], refusal: tuple[type[Exception], str]
) -> None:
    """Another column or type, a table that is not there and a row without watermark are refused; nothing is written."""
    with bills.begin() as made:
        add(made, 1, MONDAY)
        made.execute(sa.text(change))
    with pytest.raises(refusal[0], match=refusal[1]):
        run(tmp_path, shop(**source))
    assert raw(tmp_path) == []


def test_a_database_that_does_not_answer_is_asked_again_later(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No URL and no driver are ours to correct; an unreachable server is retryable; no message holds the password."""
    monkeypatch.setenv("TILLS_URL", f"postgresql+psycopg://mercato:{SECRET}@127.0.0.1:1/postgres")
    with pytest.raises(SourceDown) as down:
        run(tmp_path, shop())
    assert down.value.retryable
    assert SECRET not in str(down.value)
    for url in ("nosuch://u:{}@x/y", "postgresql+psycopg://u:pa@ss:{}@x:1/y", "postgresql+psycopg://u:p@{}@x/y"):
        monkeypatch.setenv("TILLS_URL", url.format(SECRET))
        with pytest.raises(SourceMissing, match="TILLS_URL holds no usable SQLAlchemy URL") as refused:
            run(tmp_path, shop())
        assert SECRET not in "".join(traceback.format_exception(refused.value))
    monkeypatch.delenv("TILLS_URL")
    with pytest.raises(SourceMissing, match="export TILLS_URL="):
        run(tmp_path, shop())


def test_times_as_text_in_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another database, without types for time: the watermark is ISO text with an offset, compared by its date."""
    url = f"sqlite:///{tmp_path / 'crm.db'}"
    monkeypatch.setenv("TILLS_URL", url)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as made:
        made.execute(sa.text("CREATE TABLE bills (id integer, amount real, note text, paid text, updated_at text)"))
        for number, at in enumerate(["2017-03-05T00:00Z", "2017-03-06T05:00:00Z", "2017-03-07T01:00:00-04:00"]):
            made.execute(sa.text("INSERT INTO bills VALUES (:i, 1, 'n', :at, :at)"), {"i": number, "at": at})
    columns = {**COLUMNS, "paid": "string", "updated_at": "string"}
    text = shop_of({"kind": "sql", "url_env": "TILLS_URL", "table": "bills"}, **{**RULES, "columns": columns})
    run(tmp_path, text)
    assert known(tmp_path) == [(1, datetime(2017, 3, 6, 5, tzinfo=UTC))]
    with pytest.raises(SourceMissing, match="no such table"):
        run(tmp_path, shop(table="absent"))


def test_a_database_and_parquet_are_the_same_once_clean(tmp_path: Path, bills: sa.Engine) -> None:
    """The same bills from PostgreSQL, money as numeric, leave the same clean bytes as from Parquet."""
    money = {name: sa.Numeric(12, 2) for name in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")}
    pd.DataFrame(BILLS).to_sql("bills", bills, index=False, if_exists="replace", dtype=money)
    source = {"kind": "sql", "url_env": "TILLS_URL", "table": "bills"}
    assert cleaned(tmp_path / "sql", source) == cleaned_from_parquet()


@pytest.mark.parametrize(
    ("zone", "kind", "aware", "expected"),
    [
        ("UTC", "timestamp", True, ("2017-03-06 04:45:00+00:00", "2017-03-07 04:45:00+00:00")),
        ("UTC", "timestamp", False, ("2017-03-06 04:45:00", "2017-03-07 04:45:00")),
        ("Europe/Berlin", "timestamp", False, ("2017-03-06 03:45:00", "2017-03-07 07:45:00")),
        ("UTC", "string", False, ("2017-03-05", "2017-03-09")),
    ],
)
def test_the_window_in_the_columns_own_spelling(zone: str, kind: str, aware: bool, expected: tuple[str, str]) -> None:
    """Monday in New York less 15 minutes; Berlin is one hour ahead, and two more cover a clock that is set back."""
    mark = Watermark("at", timedelta(minutes=15), zone, kind)
    assert tuple(map(str, mark.bounds(MONDAY, TUESDAY, aware=aware))) == expected
