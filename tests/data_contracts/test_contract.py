"""Contracts: one YAML, from which the Ibis pass and the pandera schema derive the same judgment."""

from pathlib import Path

import ibis
import pandas as pd
import pandera.errors
import pytest

from data_contracts.checks import BROKEN, frame_schema, mark_rows
from data_contracts.contract import CONTRACTS, contract_names, load_contract
from data_contracts.diff import contracts
from data_contracts.errors import BadContract
from data_contracts.lake import connect
from data_contracts.shop import load_shop

AT = pd.Timestamp("2017-03-06T17:00:00", tz="UTC")
GOOD = {
    "customer_key": "c1",
    "basket_id": "1",
    "product_id": "10",
    "store_id": "3",
    "quantity": 1,
    "sales_minor": 150,
    "retail_discount_minor": 0,
    "coupon_discount_minor": 0,
    "coupon_match_discount_minor": 0,
    "currency": "USD",
    "event_time": AT,
    "known_at": AT,
}


def frame(**changes: object) -> pd.DataFrame:
    table = pd.DataFrame([{**GOOD, **changes}])
    return table.astype({"event_time": "datetime64[us, UTC]", "known_at": "datetime64[us, UTC]"})


@pytest.mark.parametrize("name", sorted(contracts()))
def test_every_contract_loads_with_owner_key_and_reasons(name: str) -> None:
    """Each contract, of tables and datasets, names its owner and key, classifies people's data, and says why."""
    contract = contracts()[name]
    assert contract.name == name.removeprefix("datasets/")
    assert contract.owner
    assert set(contract.key) <= {column.name for column in contract.columns}
    for column in contract.columns:
        if column.name in {"customer_key", "session_id"}:
            assert column.classification == "confidential"
        assert all(len(rule.description) > 20 for rule in column.quality)
    assert all(len(rule.description) > 20 for rule in contract.table_rules)


def test_every_table_of_the_shop_has_a_contract() -> None:
    """What a shop delivers is agreed."""
    assert set(load_shop("complete_journey").tables) <= set(contract_names())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, ""),
        ({"quantity": 0}, "quantity_positive"),
        ({"sales_minor": -1}, "sales_not_negative"),
        ({"currency": "usd"}, "currency_is_a_code"),
        ({"currency": "USDX"}, "currency_is_a_code"),
        ({"known_at": AT - pd.Timedelta(seconds=1)}, "known_at_after_event"),
    ],
)
def test_ibis_and_pandera_agree(changes: dict[str, object], rule: str) -> None:
    """The two judges read one YAML: a value breaks the same rule, by the same name, in both."""
    contract = load_contract("transactions")
    rows = connect().create_table("t", ibis.memtable(frame(**changes)))
    assert mark_rows(rows, contract, {}).to_pyarrow()[BROKEN].to_pylist() == [rule]
    if rule:
        with pytest.raises(pandera.errors.SchemaErrors) as found:
            frame_schema(contract).validate(frame(**changes), lazy=True)
        assert found.value.failure_cases["check"].unique().tolist() == [rule]
    else:
        frame_schema(contract).validate(frame(**changes), lazy=True)


@pytest.mark.parametrize(
    ("found", "typo", "message"),
    [
        ("logicalType: integer", "logicalType: integr", "logicalType"),
        ("severity: error", "severty: error", "severty"),
        ("  - name: event_time", "  - name: when", "event_time is missing"),
        ("role: owner", "role: reader", "no member with the role `owner`"),
        ("apiVersion: v3.1.0", "apiVersion: v2", "apiVersion"),
        ("notBefore: event_time", "notBefore: event_tme", "unknown column 'event_tme'"),
        ("kind: DataContract", "kind: [", "is not YAML"),
    ],
)
def test_a_broken_contract_is_refused(tmp_path: Path, found: str, typo: str, message: str) -> None:
    """A slip in a contract's YAML is named."""
    text = (CONTRACTS / "transactions.odcs.yaml").read_text()
    assert found in text
    (tmp_path / "transactions.odcs.yaml").write_text(text.replace(found, typo))
    with pytest.raises(BadContract, match=message):
        load_contract("transactions", tmp_path)


def test_an_unknown_contract_or_column_is_named() -> None:
    """The message lists what there is."""
    with pytest.raises(BadContract, match="known: campaign_descriptions"):
        load_contract("orders")
    with pytest.raises(BadContract, match="did you mean 'quantity'"):
        load_contract("transactions").column("quantities")
