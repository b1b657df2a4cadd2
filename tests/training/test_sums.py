"""Lines that add up: the total of a key grows by what becomes known later, however it comes."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from data_contracts.lake import as_of
from data_contracts.shop import Shop
from mercato.identity import Identity
from mercato.paths import Lake
from tests.lake_maker import MONDAY, NOON, days, hand_shop, line, make_identity, make_lake, tree
from training.clean import clean
from training.errors import RawLetGo
from training.extract import extract
from training.quarantine import export, listing
from training.readmit import readmit

WEDNESDAY = MONDAY + timedelta(days=2)


def adding(folder: Path, lines: list[dict[str, object]]) -> Shop:
    """The hand-made shop, whose lines of one basket and product add up."""
    shop = hand_shop(folder, lines)
    table = shop.tables["transactions"].model_copy(update={"sums": ("quantity", "sales_minor")})
    return shop.model_copy(update={"tables": {**shop.tables, "transactions": table}})


@pytest.fixture
def place(tmp_path: Path) -> tuple[Lake, Identity]:
    """A lake that knows the products."""
    shop, lake, people = adding(tmp_path / "source", [line()]), make_lake(tmp_path / "lake"), make_identity(tmp_path)
    since, until = shop.window()
    extract(lake, shop, "products", since=since, until=until)
    clean(lake, shop, "products", people, since=since, until=until)
    return lake, people


def taken(lake: Lake, shop: Shop, people: Identity, first: datetime, *, at: datetime | None = None) -> None:
    """One day extracted, or looked over again at `at`, and cleaned: the day, or that of `at`."""
    extract(lake, shop, "transactions", **days(first, 1, shop), observed_at=at)
    clean(lake, shop, "transactions", people, **days(at or first, 1, shop))


def total(lake: Lake, at: datetime) -> list[tuple[int, int]]:
    """(units, minor units of money) of each basket, as known before `at`."""
    rows = as_of(lake, "transactions", event_before=at, known_before=at).order_by("basket_id").to_pyarrow().to_pylist()
    return [(row["quantity"], row["sales_minor"]) for row in rows]


def test_a_line_that_comes_later_adds_to_its_bill(place: tuple[Lake, Identity], tmp_path: Path) -> None:
    """2 units on Monday, 5 more seen on Wednesday: 2 before, 7 after; cleaned again, still 7."""
    lake, people = place
    monday = [line(quantity=2, sales_value=3.0), line(2)]
    taken(lake, adding(tmp_path / "a", monday), people, MONDAY)
    shop = adding(tmp_path / "b", [*monday, line(quantity=5, sales_value=7.5)])
    for _ in range(2):
        taken(lake, shop, people, MONDAY, at=WEDNESDAY)
        assert total(lake, WEDNESDAY) == [(2, 300), (1, 150)]
        assert total(lake, WEDNESDAY + timedelta(days=1)) == [(7, 1050), (1, 150)]
    third = adding(tmp_path / "c", [*monday, line(quantity=5, sales_value=7.5), line(quantity=1, sales_value=1.0)])
    taken(lake, third, people, MONDAY, at=WEDNESDAY + timedelta(days=1))
    assert total(lake, WEDNESDAY + timedelta(days=2)) == [(8, 1150), (1, 150)]


def test_totals_are_not_made_again_without_lines_that_were_let_go(place: tuple[Lake, Identity], tmp_path: Path) -> None:
    """Monday's raw lines are gone: Wednesday's addition to its bill stays as it is, Thursday can be cleaned."""
    lake, people = place
    monday, thursday = [line(quantity=2)], line(3, at=NOON + timedelta(days=3))
    taken(lake, adding(tmp_path / "a", monday), people, MONDAY)
    shop = adding(tmp_path / "b", [*monday, line(quantity=5), thursday])
    taken(lake, shop, people, MONDAY, at=WEDNESDAY)
    Path(f"{lake.partition('raw', 'transactions', '2017-03-06')}/part.parquet").unlink()
    before = tree(lake)
    with pytest.raises(RawLetGo, match="2017-03-08 to 2017-03-08, have lines of 2017-03-06 or before, and 1 raw days"):
        clean(lake, shop, "transactions", people, **days(WEDNESDAY, 1, shop))
    assert tree(lake) == before
    taken(lake, shop, people, WEDNESDAY + timedelta(days=1))
    assert total(lake, WEDNESDAY + timedelta(days=2)) == [(7, 300), (1, 150)]


def test_lines_of_one_day_known_one_after_the_other_add_up(place: tuple[Lake, Identity], tmp_path: Path) -> None:
    """The second version of a bill holds the first."""
    lake, people = place
    lines = [line(quantity=2), line(quantity=2), line(quantity=5, at=NOON + timedelta(hours=1))]
    shop = adding(tmp_path / "a", lines)
    taken(lake, shop, people, MONDAY)
    noon = MONDAY + timedelta(hours=13)
    assert total(lake, noon) == [(4, 300)]
    assert total(lake, noon + timedelta(hours=1)) == [(9, 450)]


@pytest.mark.parametrize("text", [False, True])
def test_repaired_lines_add_to_those_that_held(place: tuple[Lake, Identity], tmp_path: Path, text: bool) -> None:
    """Two equal broken lines beside a good one of 7: each counts, from a table of numbers and from one of text."""
    lake, people = place
    shop = adding(tmp_path / "a", [line(quantity=7, sales_value=10.5), line(quantity=0), line(quantity=0)])
    if text:
        source = shop.tables["transactions"].source
        lines = pd.read_parquet(source.path).assign(basket_id=[1, 1, 1])
        lines.to_csv(tmp_path / "lines.csv", index=False)
        changed = source.model_copy(update={"path": str(tmp_path / "lines.csv")})
        table = shop.tables["transactions"].model_copy(update={"source": changed})
        shop = shop.model_copy(update={"tables": {**shop.tables, "transactions": table}})
    taken(lake, shop, people, MONDAY)
    file = tmp_path / "rows.jsonl"
    assert export(lake, shop, "transactions", file, **days(MONDAY, 1, shop))["rows"] == 2
    rows = [json.loads(each) | {"quantity": "1" if text else 1} for each in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = readmit(lake, shop, "transactions", people, file, at=WEDNESDAY)
    assert (found.readmitted, found.already_there) == (2, 0)
    again = readmit(lake, shop, "transactions", people, file, at=WEDNESDAY + timedelta(hours=1))
    assert (again.readmitted, again.already_there) == (0, 2)
    assert total(lake, WEDNESDAY + timedelta(days=1)) == [(9, 1350)]
    [listed] = listing(lake, shop, ["transactions"], **days(MONDAY, 1, shop))
    assert (listed["rows"], listed["readmitted"]) == (2, 2)
