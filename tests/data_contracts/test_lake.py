"""as_of: what was true at D as known at K, read from partitions that are whole."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.contract import load_contract
from data_contracts.errors import CorruptFile, NoWindow, SourceMissing
from data_contracts.lake import arrow_schema, as_of, connect, snapshot, snapshot_digest, verify
from data_contracts.partitions import Manifest, describe, encode, manifests, writing
from mercato.paths import Lake
from tests.lake_maker import MONDAY, days, hand_shop, line, make_identity, make_lake, sample_shop
from training.clean import clean
from training.extract import extract

CORRECTED_AT = MONDAY + timedelta(days=3, hours=15)
DAY = timedelta(days=1)
FOREVER = MONDAY + timedelta(days=300)


@dataclass(frozen=True)
class Story:
    """A lake, and what `as_of` gave at several K before its correction arrived."""

    lake: Lake
    before: dict[datetime, tuple[str, str]]


def hashes(lake: Lake, known_before: datetime) -> tuple[str, str]:
    """(hash of the rows of `as_of`, digest that names them)."""
    bounds = {"event_before": FOREVER, "known_before": known_before}
    rows = as_of(lake, "transactions", **bounds)
    encoded = encode(rows.order_by(rows.columns).to_pyarrow())
    return hashlib.sha256(encoded).hexdigest(), snapshot_digest(lake, "transactions", **bounds)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Baskets 1 and 2 on Monday; on Thursday basket 1 turns out to hold 5 units instead of 1."""
    folder = tmp_path_factory.mktemp("corrected")
    shop, lake, people = hand_shop(folder / "s", [line(1), line(2)]), make_lake(folder), make_identity(folder)
    since, until = shop.window()
    extract(lake, shop, "products", since=since, until=until)
    clean(lake, shop, "products", people, since=since, until=until)
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    clean(lake, shop, "transactions", people, **days(MONDAY, 7, shop))
    instants = [MONDAY + n * DAY for n in range(1, 8)] + [CORRECTED_AT, CORRECTED_AT + timedelta(microseconds=1)]
    before = {at: hashes(lake, at) for at in instants}
    hand_shop(folder / "s", [line(1, quantity=5), line(2)])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop), observed_at=CORRECTED_AT)
    clean(lake, shop, "transactions", people, **days(MONDAY, 7, shop))
    return Story(lake, before)


@pytest.fixture(scope="module")
def corrected(story: Story) -> Lake:
    """The lake of the story, correction and all."""
    return story.lake


def quantities(lake: Lake, **bounds: datetime) -> dict[str, int]:
    rows = as_of(lake, "transactions", **bounds).to_pyarrow().to_pylist()
    return {str(row["basket_id"]): row["quantity"] for row in rows}


def test_a_correction_changes_what_was_known_after_it_and_not_before(story: Story) -> None:
    """For K up to the correction the rows hash as they did before it arrived, for K after it they do not; the digest
    that names them says the same at every midnight. K just after it sees 5 units instead of 1, each basket once.
    """
    for at, (rows, digest) in story.before.items():
        now, named = hashes(story.lake, at)
        assert (now == rows) is (at <= CORRECTED_AT), at
        if at.hour == MONDAY.hour:
            assert (named == digest) is (at <= CORRECTED_AT), at
    after = quantities(story.lake, event_before=FOREVER, known_before=CORRECTED_AT + timedelta(microseconds=1))
    assert after == {"1": 5, "2": 1}


def test_events_after_d_are_not_seen(corrected: Lake) -> None:
    """D is exclusive: at the instant of the event nothing is true yet, though it is known."""
    noon = MONDAY + timedelta(hours=12)
    assert quantities(corrected, event_before=noon, known_before=FOREVER) == {}
    assert len(quantities(corrected, event_before=noon + timedelta(seconds=1), known_before=FOREVER)) == 2


def test_since_prunes_without_changing_the_versions(corrected: Lake) -> None:
    """`since` after Monday finds nothing, although the correction itself arrived later."""
    tuesday = MONDAY + timedelta(days=1)
    assert quantities(corrected, event_before=FOREVER, known_before=FOREVER, since=tuesday) == {}
    assert len(quantities(corrected, event_before=FOREVER, known_before=FOREVER, since=MONDAY)) == 2


def test_an_event_dated_after_it_was_known_is_not_pruned(tmp_path: Path) -> None:
    """Known two minutes before a midnight and dated two minutes after it: `since` that midnight finds it, unless a
    later day took its time back; where no clock ran ahead `since` reads and names its own days only.
    """
    lake, tuesday, minutes = make_lake(tmp_path), MONDAY + DAY, timedelta(minutes=2)
    product = dict.fromkeys(column.name for column in load_contract("products").columns)

    def put(day: date, *rows: tuple[str, datetime, datetime]) -> None:
        made = [{**product, "product_id": name, "event_time": at, "known_at": known} for name, at, known in rows]
        frame = pa.Table.from_pylist(made, arrow_schema(load_contract("products")))
        data = encode(frame)
        known = {"table": "products", "layer": "clean", "ds": day, "contract": "products@1.0.0", "inputs": {}}
        with writing(lake) as out:
            out.put(data, describe(frame, data, **known))

    def since(at: datetime) -> list[str]:
        rows = as_of(lake, "products", event_before=FOREVER, known_before=FOREVER, since=at)
        return sorted(rows.product_id.to_pyarrow().to_pylist())

    put(date(2017, 3, 5), ("old", MONDAY - DAY, MONDAY - DAY))
    put(date(2017, 3, 7), ("tue", tuesday, tuesday))
    assert list(snapshot(lake, "products", known_before=FOREVER, since=tuesday)) == ["2017-03-07"]
    ahead = (tuesday + minutes, tuesday - minutes)
    put(date(2017, 3, 6), ("ahead", *ahead), ("back", *ahead))
    put(date(2017, 3, 7), ("tue", tuesday, tuesday), ("back", MONDAY, tuesday + minutes))
    assert since(tuesday) == ["ahead", "tue"]
    assert since(tuesday + DAY) == []
    read = snapshot(lake, "products", known_before=FOREVER, since=tuesday)
    assert list(read) == ["2017-03-06", "2017-03-07"]
    assert list(snapshot(lake, "products", known_before=FOREVER, since=tuesday + DAY)) == []


def test_a_digest_names_what_was_read(corrected: Lake) -> None:
    """The digest changes with what was known and with the bounds, and with nothing else."""
    known = {"event_before": FOREVER, "known_before": CORRECTED_AT - timedelta(days=1)}
    one = snapshot_digest(corrected, "transactions", **known)
    assert one == snapshot_digest(corrected, "transactions", **known)
    assert one != snapshot_digest(corrected, "transactions", **{**known, "known_before": FOREVER})
    assert one != snapshot_digest(corrected, "transactions", **known, since=MONDAY)


def test_a_naive_bound_and_an_empty_table_are_refused(corrected: Lake) -> None:
    """A time without a zone is an error, and so is a table that was never cleaned."""
    with pytest.raises(NoWindow, match="naive"):
        as_of(corrected, "transactions", event_before=FOREVER, known_before=datetime(2017, 1, 1))  # noqa: DTZ001
    with pytest.raises(SourceMissing, match="clean/promotions"):
        as_of(corrected, "promotions", event_before=FOREVER, known_before=FOREVER)


def test_two_tables_join(corrected: Lake) -> None:
    """Tables of one process live on one connection."""
    sales = as_of(corrected, "transactions", event_before=FOREVER, known_before=FOREVER)
    products = as_of(corrected, "products", event_before=FOREVER, known_before=FOREVER)
    assert sales.join(products, "product_id").count().to_pyarrow().as_py() == 2


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two months of the real sample's products and promotions, plus redemptions."""
    folder = tmp_path_factory.mktemp("real")
    shop, lake, people = sample_shop(), make_lake(folder), make_identity(folder)
    for table in ("products", "promotions", "coupon_redemptions"):
        window = {"since": shop.window()[0], "until": shop.week_start(10)}
        extract(lake, shop, table, **window)
        clean(lake, shop, table, people, **window)
    return lake


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=st.integers(0, 70 * 24), delay=st.integers(-200, 400), back=st.none() | st.integers(0, 40 * 24))
def test_pruning_and_skipped_deduplication_do_not_show(real: Lake, hours: int, delay: int, back: int | None) -> None:
    """as_of equals the definition written out over all clean rows, for any D, K and since."""
    until = datetime(2016, 12, 26, 5, tzinfo=UTC) + timedelta(hours=hours)
    known = until + timedelta(hours=delay)
    since = None if back is None else until - timedelta(hours=back)
    for table in ("promotions", "coupon_redemptions"):
        paths = [f"{real.partition('clean', table, ds)}/part.parquet" for ds in real.days("clean", table)]
        rows = connect().read_parquet(paths, hive_partitioning=False)
        rows = rows.filter(ibis._.event_time < until, ibis._.known_at < known)
        wanted = rows if since is None else rows.filter(ibis._.event_time >= since)
        try:
            found = as_of(real, table, event_before=until, known_before=known, since=since)
        except SourceMissing:
            assert wanted.count().to_pyarrow().as_py() == 0
            continue
        order = list(found.columns)
        assert found.order_by(order).to_pyarrow().equals(wanted.order_by(order).to_pyarrow().select(order))


def test_a_cut_partition_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    """A shorter file is seen at once, one flipped bit by `verify`; the message says what to run."""
    shop, lake, people = sample_shop(), make_lake(tmp_path), make_identity(tmp_path)
    window = dict(zip(("since", "until"), shop.window(), strict=True))
    extract(lake, shop, "products", **window)
    clean(lake, shop, "products", people, **window)
    path = Path(f"{lake.partition('clean', 'products', '2017-01-01')}/part.parquet")
    whole = path.read_bytes()
    assert verify(lake, "products") == 1
    path.write_bytes(whole[:-1])
    with pytest.raises(CorruptFile, match="clean_tables again for products on 2017-01-01"):
        as_of(lake, "products", event_before=FOREVER, known_before=FOREVER)
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(CorruptFile, match="hashes to"):
        verify(lake, "products")
    path.write_bytes(whole)
    (path.parent / "manifest.json").write_text("{")
    with pytest.raises(CorruptFile, match="manifest does not parse"):
        as_of(lake, "products", event_before=FOREVER, known_before=FOREVER)


def test_a_partition_without_manifest_does_not_exist(tmp_path: Path, corrected: Lake) -> None:
    """Data come before the manifest that vouches for them: a kill in between leaves an unfinished partition unread."""
    other = make_lake(tmp_path)
    found = manifests(corrected, "clean", "transactions")[0]
    source = Path(f"{corrected.partition('clean', 'transactions', str(found.ds))}/part.parquet")
    target = Path(other.partition("clean", "transactions", str(found.ds)))
    target.mkdir(parents=True)
    (target / "part.parquet").write_bytes(source.read_bytes())
    assert manifests(other, "clean", "transactions") == []


def test_an_error_puts_no_partition_in_place(tmp_path: Path, corrected: Lake) -> None:
    """Partitions of one run come into place together or not at all."""
    lake = make_lake(tmp_path)
    frame = as_of(corrected, "products", event_before=FOREVER, known_before=FOREVER).to_pyarrow()
    data = encode(frame)
    about = describe(frame, data, table="products", layer="clean", ds="2017-01-01", contract="products@1", inputs={})

    def fail() -> None:
        with writing(lake) as out:
            out.put(data, about)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


FULL = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from data_contracts.partitions import describe, encode, writing
from tests.lake_maker import MONDAY, make_lake
rows = pa.table({"event_time": [MONDAY], "known_at": [MONDAY]})
about = dict(table="t", layer="clean", contract="t@1", inputs={})
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
with writing(make_lake(Path(sys.argv[1]))) as out:
    for ds, data in (("2017-01-01", encode(rows)[:900]), ("2017-01-02", b"x" * 9000)):
        out.put(data, describe(rows, data, ds=ds, **about))
"""


def test_a_disk_that_fills_up_while_partitions_are_written(tmp_path: Path) -> None:
    """The second partition does not fit: the first one is not put in place either, and no leftover stays."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "OutOfSpace: no space left below" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_partitions_from_before_a_column_was_added_read_as_null(tmp_path: Path) -> None:
    """An optional column that a contract gained is null in older partitions, alone and beside newer ones."""
    shop, lake, people = hand_shop(tmp_path / "s", [line()]), make_lake(tmp_path), make_identity(tmp_path)
    since, until = shop.window()
    extract(lake, shop, "products", since=since, until=until)
    clean(lake, shop, "products", people, since=since, until=until)
    (there,) = manifests(lake, "clean", "products")
    rows = pq.read_table(f"{lake.partition('clean', 'products', there.ds.isoformat())}/part.parquet")
    _put(lake, there, rows.drop_columns(["name"]))
    found = as_of(lake, "products", event_before=FOREVER, known_before=FOREVER).to_pyarrow()
    assert found.num_rows == found["name"].null_count == rows.num_rows
    named = rows.set_column(rows.column_names.index("name"), "name", pa.array(["Tea"] * rows.num_rows))
    late = named.set_column(rows.column_names.index("known_at"), "known_at", pa.array([FOREVER] * rows.num_rows))
    _put(lake, there.model_copy(update={"ds": shop.business_day(FOREVER)}), late)
    both = as_of(lake, "products", event_before=FOREVER, known_before=FOREVER + timedelta(days=1)).to_pyarrow()
    assert both["name"].to_pylist() == ["Tea"] * rows.num_rows


def _put(lake: Lake, like: Manifest, rows: pa.Table) -> None:
    data = encode(rows)
    known = {"table": like.table, "layer": "clean", "ds": like.ds, "contract": like.contract, "inputs": {}}
    with writing(lake) as out:
        out.put(data, describe(rows, data, **known))
