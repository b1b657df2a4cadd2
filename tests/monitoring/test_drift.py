"""Drift is flagged where it was planted, and nowhere else."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from feature_repo.writer import write_snapshots
from mercato.paths import Lake
from mercato.paths import lake as lake_of
from mercato.settings import Settings
from monitoring.drift import THRESHOLD, DriftReport, report_drift
from monitoring.errors import BadWindows
from tests.feature_repo.clean_sample import DAY, WEEK, T, products, promotions, transactions, write

FORTNIGHT = 2 * WEEK


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the purchases of the two weeks before T, and the same ones again in the two weeks after."""
    home = tmp_path_factory.mktemp("drift")
    lake = lake_of(Settings(home=home))
    bought = transactions()
    bought = bought[(bought["event_time"] >= T - FORTNIGHT) & (bought["known_at"] < T)]
    write(lake, "transactions", pd.concat([bought, again(bought)]))
    write(lake, "products", products(bought["product_id"]))
    write(lake, "promotions", promotions(bought["product_id"]))
    return home


def again(bought: pd.DataFrame) -> pd.DataFrame:
    """The same purchases, a fortnight later."""
    shift = timedelta(days=14)
    later = {"event_time": bought["event_time"] + shift, "known_at": bought["known_at"] + shift}
    return bought.assign(basket_id="9" + bought["basket_id"], **later)


@pytest.fixture
def lake(base: Path, tmp_path: Path) -> Lake:
    shutil.copytree(base, tmp_path / "home")
    return lake_of(Settings(home=tmp_path / "home"))


def report(lake: Lake, workspace: Path, *tables: str) -> DriftReport:
    """The two weeks after T against the two weeks before."""
    windows = {"since": T, "until": T + FORTNIGHT, "reference_since": T - FORTNIGHT, "reference_until": T}
    return report_drift(lake, tables, **windows, workspace=workspace)


def test_the_same_purchases_do_not_drift(lake: Lake, tmp_path: Path) -> None:
    """Two windows with the same rows have the distance 0 in each column."""
    found = report(lake, tmp_path / "drift", "transactions", "products")
    compared = {each.subject: each for each in found.subjects if each.kind == "table"}
    assert found.drifted == {}
    assert compared["transactions"].current_rows == compared["transactions"].reference_rows > 1_000
    assert set(compared["transactions"].scores.values()) == set(compared["products"].scores.values()) == {0.0}
    assert not {"customer_key", "basket_id", "event_time"} & set(compared["transactions"].scores)


def test_prices_times_three_are_flagged(lake: Lake, tmp_path: Path) -> None:
    """Where every price was tripled, `sales_minor` drifts, and only it; summary, HTML and workspace say so."""
    bought = transactions()
    bought = again(bought[(bought["event_time"] >= T - FORTNIGHT) & (bought["known_at"] < T)])
    write(lake, "transactions", bought.assign(sales_minor=bought["sales_minor"] * 3))
    found = report(lake, tmp_path / "drift", "transactions")
    assert found.drifted == {"transactions": ("sales_minor",)}
    summary = json.loads(found.summary.read_text())
    (written,) = [each for each in summary["subjects"] if each["subject"] == "transactions"]
    assert written["scores"]["sales_minor"] >= THRESHOLD == summary["threshold"]
    assert b"<!DOCTYPE html>" in (found.summary.parent / written["html"]).read_bytes()
    assert runs(found) == {"transactions": 1}


@pytest.mark.parametrize("every", [1, 2])
def test_numbers_that_go_missing_are_flagged(lake: Lake, tmp_path: Path, every: int) -> None:
    """Prices that vanish, all or every second one, and flags that turn are named; the rest of the report is whole."""
    table = products(transactions()["product_id"])
    before = table.assign(list_price_minor=pd.RangeIndex(len(table)), in_stock=True)
    write(lake, "products", before)
    gone = before.index[::every]
    after = before.astype({"list_price_minor": "Int64"}).assign(event_time=T + DAY, known_at=T + DAY)
    after.loc[gone, ["list_price_minor", "in_stock"]] = [None, False]
    write(lake, "products", after)
    found = report(lake, tmp_path / "drift", "products")
    assert {name: set(columns) for name, columns in found.drifted.items()} == {
        "products": {"list_price_minor missing", "in_stock"}
    }
    (compared,) = [each for each in found.subjects if each.subject == "products"]
    assert ("list_price_minor" in compared.scores) == (every > 1)


def runs(found: DriftReport) -> dict[str, int]:
    """Subject -> runs in the Evidently workspace."""
    counts: dict[str, int] = {}
    for path in found.evidently.glob("*/snapshots/*.json"):
        subject = json.loads(path.read_text())["metadata"]["subject"]
        counts[subject] = counts.get(subject, 0) + 1
    return counts


def test_each_feature_service_is_compared_by_its_snapshots(lake: Lake, tmp_path: Path) -> None:
    """Features of T + 14 days against those of T: every service is covered, arrays count by length and mean, and the
    same report again replaces its runs.
    """
    for at in (T, T + FORTNIGHT):
        write_snapshots(lake, at)
    for _ in range(2):
        found = report(lake, tmp_path / "drift")
    assert {service for each in found.subjects for service in each.of} >= {"ranker_all_v1", "ranker_novel_v1", "als_v1"}
    (customers,) = [each for each in found.subjects if each.subject == "ranker_all_v1.customer"]
    assert {"product_ids_n", "n_purchases_mean", "n_baskets", "category_affinity_mean"} <= set(customers.scores)
    assert "n_baskets" in customers.drifted
    assert not {"snapshot_at", "last_at_mean"} & set(customers.scores)
    assert set(runs(found).values()) == {1}


def test_a_side_without_rows_is_said_not_judged(lake: Lake, tmp_path: Path) -> None:
    """An empty window, and features without a snapshot, are named as skipped; they neither drift nor pass."""
    found = report_drift(
        lake,
        ["transactions"],
        since=T + 3 * WEEK,
        until=T + 4 * WEEK,
        reference_since=T,
        reference_until=T + WEEK,
        workspace=tmp_path,
    )
    skipped = {each.subject: each.skipped for each in found.subjects}
    assert skipped["transactions"] == "no rows in the current window"
    assert all(reason == "no rows in the current window" for reason in skipped.values())
    assert found.drifted == {}


def test_windows_that_cannot_be_compared_are_refused(lake: Lake, tmp_path: Path) -> None:
    """A reference that does not come first is an error, before anything is written."""
    with pytest.raises(BadWindows, match="the reference first"):
        report_drift(
            lake, [], since=T, until=T + DAY, reference_since=T, reference_until=T + DAY, workspace=tmp_path / "drift"
        )
    assert not (tmp_path / "drift").exists()
