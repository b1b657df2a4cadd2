"""`mercato source check`: every problem at once, rows to look at, and no customer's id among them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_contracts import shop as shops
from mercato.cli import app
from tests.training.sources import COLUMNS, files, shop_of
from training.checking import check_source

HEADER = ",".join(COLUMNS)


def test_rows_are_shown_without_customers(tmp_path: Path) -> None:
    """A column that some table maps to the customer is masked; the rest is as the source spells it."""
    (tmp_path / "a.csv").write_text(f"{HEADER}\n" + "household 7,2017-03-06T17:00:00Z,1,1.5\n" * 5)
    shop = shop_of(files(tmp_path / "a.csv"), mapping={"customer_key": {"identity": "basket"}})
    found = check_source(shop, "transactions")
    assert (found.problems, len(found.sample)) == ([], 3)
    assert found.sample[0] == {"basket": "***", "paid": "2017-03-06T17:00:00Z", "quantity": "1", "amount": "1.5"}


def test_problems_are_reported_not_raised(tmp_path: Path) -> None:
    """Columns that differ, times that do not read, and a missing source; only what may pass counts as passing."""
    (tmp_path / "a.csv").write_text("basket,paid,amount,tip\nb,6.3.17,1,1\n")
    found = check_source(shop_of(files(tmp_path / "a.csv")), "transactions")
    assert [each.split(" ")[0] for each in found.problems] == ["unknown", "missing", "event_time:"]
    assert "'6.3.17' by the format 'ISO 8601'" in found.problems[2]
    assert not found.passing
    absent = check_source(shop_of(files(tmp_path / "b.csv")), "transactions")
    assert ("no file matches" in absent.problems[0], absent.passing) == (True, False)


def test_an_unreachable_api_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another try may mend is told apart, for the exit code."""
    monkeypatch.setenv("TILLS_URL", "postgresql+psycopg://x@127.0.0.1:1/y")
    found = check_source(shop_of({"kind": "sql", "url_env": "TILLS_URL", "table": "bills"}), "transactions")
    assert found.passing
    assert "does not answer" in found.problems[0]


def test_the_commands_print_and_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` prints YAML, or writes it and lists its gaps; `check` exits 0 on a source that fits, 65 on another."""
    source = tmp_path / "lines.csv"
    source.write_text("order_id,sku,qty,amount,paid\n1,a,1,2.5,2017-03-06\n")
    runner = CliRunner()
    shown = runner.invoke(app, ["source", "init", str(source)])
    assert (shown.exit_code, shown.stdout.count("FILL IN") > 3) == (0, True)
    monkeypatch.setattr(shops, "SHOPS", tmp_path)
    monkeypatch.setattr("data_contracts.shop.load_shop.__defaults__", (tmp_path,))
    monkeypatch.setattr("training.draft.write.__defaults__", (tmp_path,))
    written = json.loads(runner.invoke(app, ["source", "init", str(source), "--write"]).stdout)
    assert "currency" in written["fill_in"]
    assert written["next"].endswith("MERCATO_SHOP=lines mercato source check")
    path = Path(written["written"])
    text = path.read_text().replace('currency: ""', "currency: EUR").replace('constant: ""', "constant: EUR")
    text = text.replace('zone: ""', "zone: UTC").replace("known_at: {}", "known_at: {delay: PT1H, reason: told}")
    path.write_text(text)
    monkeypatch.setenv("MERCATO_SHOP", "lines")
    monkeypatch.setenv("MERCATO_HOME", str(tmp_path / "home"))
    assert runner.invoke(app, ["source", "check", "transactions"]).exit_code == 0
    source.write_text("order_id,sku,qty,amount\n")
    broken = runner.invoke(app, ["source", "check", "transactions"])
    assert broken.exit_code == 65
    assert json.loads(broken.stdout)[0]["problems"] == ["missing column 'paid' (timestamp)"]
