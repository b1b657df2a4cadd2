"""Changes of a contract: which ones break somebody, and which version each needs."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_contracts.contract import CONTRACTS, Contract, load_contract
from data_contracts.dictionary import dictionary
from data_contracts.diff import (
    LOCK,
    changes,
    complaint,
    complaints,
    contracts,
    grown,
    lock_text,
    locked,
    needed,
    write_lock,
)
from data_contracts.errors import BadContract
from mercato.cli import app
from tests.golden import ROOT, check_golden
from training import feedback, query_log
from training.reads import READS

OLD = """
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.2.3
status: active
domain: behaviour
description: {purpose: Who came in.}
team: {members: [{username: data-platform, role: owner}]}
schema:
- name: visits
  logicalType: object
  physicalType: table
  description: One row per visit.
  properties:
  - {name: visit_id, logicalType: string, description: Visit., required: true, primaryKey: true}
  - name: door
    logicalType: integer
    description: Which door.
    quality:
    - name: door_exists
      description: the shop has four doors
      dimension: validity
      severity: error
      type: library
      metric: invalidValues
      arguments: {minimum: 1, maximum: 4}
  - {name: event_time, logicalType: timestamp, description: When., required: true}
  - {name: known_at, logicalType: timestamp, description: When known., required: true}
"""


def column(raw: dict[str, Any], at: int) -> Any:
    return raw["schema"][0]["properties"][at]


def edited(edit: Any, version: str = "1.2.3") -> Contract:
    raw = deepcopy(yaml.safe_load(OLD))
    edit(raw)
    return Contract.model_validate({**raw, "version": version})


def rule(raw: dict[str, Any]) -> Any:
    return column(raw, 1)["quality"][0]


TABLE_RULE = {
    "name": "rows_there", "description": "a day without visits is odd", "dimension": "completeness",
    "severity": "error", "type": "library", "metric": "rowCount", "unit": "rows", "mustBeGreaterOrEqualTo": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "level"),
    [
        (dict, ""),
        (lambda raw: raw["schema"][0]["properties"].pop(1), "major"),
        (lambda raw: column(raw, 1).update(logicalType="string", quality=[]), "major"),
        (lambda raw: column(raw, 1).update(required=True), "major"),
        (lambda raw: column(raw, 1).update(primaryKey=True, primaryKeyPosition=2), "major"),
        (lambda raw: column(raw, 1).update(classification="confidential"), "major"),
        (lambda raw: column(raw, 1).update(classification="public"), "minor"),
        (lambda raw: raw["schema"][0]["properties"].append({**column(raw, 1), "name": "till"}), "minor"),
        (
            lambda raw: raw["schema"][0]["properties"].append({**column(raw, 1), "name": "till", "required": True}),
            "major",
        ),
        (lambda raw: rule(raw)["arguments"].update(maximum=3), "minor"),
        (lambda raw: rule(raw)["arguments"].update(maximum=5), "major"),
        (lambda raw: rule(raw)["arguments"].pop("minimum"), "major"),
        (lambda raw: rule(raw).update(severity="warning"), "major"),
        (lambda raw: column(raw, 1).update(quality=[]), "major"),
        (lambda raw: raw["schema"][0].update(quality=[TABLE_RULE]), "minor"),
        (lambda raw: rule(raw).update(description="the shop has four doors, one of them locked"), "patch"),
        (lambda raw: raw.update(status="deprecated"), "patch"),
    ],
)
def test_each_change_needs_its_version(edit: Any, level: str) -> None:
    """Who was right before, reader or source, stays right unless the major version grows."""
    old, new = edited(dict), edited(edit)
    assert needed(changes(old, new)) == level
    assert any(each.breaking for each in changes(old, new)) == (level == "major")
    assert bool(complaint(old, new)) == bool(level)


def test_a_larger_step_is_enough_and_a_smaller_one_is_not() -> None:
    """1.2.3 to 2.0.0 covers anything; 1.3.0 does not cover a removed column; going back covers nothing."""
    old = edited(dict)

    def without_door(version: str) -> Contract:
        return edited(lambda raw: raw["schema"][0]["properties"].pop(1), version)

    assert complaint(old, without_door("2.0.0")) == ""
    assert "door: column removed; that needs a new major version" in complaint(old, without_door("1.3.0"))
    assert grown("1.2.3", "1.1.9") == ""
    assert (grown("1.2.3", "1.2.4"), grown("1.2.3", "1.3.0"), grown("1.2.3", "2.0.0")) == ("patch", "minor", "major")


def test_the_committed_contracts_are_the_locked_ones() -> None:
    """A contract that changed without the version that its change needs, or without `mercato contract lock`, fails."""
    now = contracts()
    assert complaints(locked(), now) == []
    assert LOCK.read_text() == lock_text(now), "run `mercato contract lock` and commit contracts.lock.json"


def test_a_contract_that_is_gone_is_named() -> None:
    """Removing a table breaks its readers; a retired one may go."""
    visits = edited(dict)
    assert "visits 1.2.3 is gone" in complaints({"visits": visits}, {})[0]
    assert complaints({"visits": edited(lambda raw: raw.update(status="retired"))}, {}) == []


def test_the_lock_refuses_a_version_that_is_too_small(tmp_path: Path) -> None:
    """Locking over a breaking change without a new major version fails and leaves the lock as it was."""
    path = tmp_path / "contracts.lock.json"
    assert write_lock(path) == sorted(contracts())
    assert write_lock(path) == []
    body = json.loads(path.read_text())
    body["transactions"]["schema"][0]["properties"].append({**column(yaml.safe_load(OLD), 1), "name": "till"})
    text = json.dumps(body)
    path.write_text(text)
    with pytest.raises(BadContract, match="till: column removed; that needs a new major version"):
        write_lock(path)
    assert path.read_text() == text


def test_the_command_names_readers_and_exits_65(tmp_path: Path) -> None:
    """Dropping a column of transactions without a new major version: 65, and who reads the table."""
    text = (CONTRACTS / "transactions.odcs.yaml").read_text()
    raw = yaml.safe_load(text)
    raw["schema"][0]["properties"] = [each for each in raw["schema"][0]["properties"] if each["name"] != "store_id"]
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(raw))
    result = CliRunner().invoke(app, ["contract", "diff", "transactions", str(tmp_path / "new.yaml")])
    assert result.exit_code == 65
    said = yaml.safe_load(result.stdout)
    assert said["breaking"]
    assert said["changes"] == [{"where": "store_id", "what": "column removed", "breaking": True}]
    assert "customer_history" in said["read_by"]["feature_views"]
    assert {"ranker_all", "co_purchase", "product_features"} <= set(said["read_by"]["models"])
    assert "recommendation_examples" in said["read_by"]["datasets"]
    raw["version"] = f"{int(load_contract('transactions').version.split('.')[0]) + 1}.0.0"
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(raw))
    assert CliRunner().invoke(app, ["contract", "diff", "transactions", str(tmp_path / "new.yaml")]).exit_code == 0


@pytest.mark.parametrize(
    ("name", "kind", "readers"),
    [
        ("interactions", "models", ["query_lexicon", "ranker_all", "ranker_novel"]),
        ("impressions", "datasets", ["impression_outcomes"]),
        ("promotions", "models", ["product_features", "ranker_all", "ranker_novel"]),
        ("search_pairs", "models", ["encoder_choice"]),
        ("messages", "datasets", ["intent_examples"]),
    ],
)
def test_whoever_reads_a_table_or_a_dataset_is_named(name: str, kind: str, readers: list[str]) -> None:
    """Models read by themselves, through a feature view or from a training dataset; `--table` shows them too."""
    said = yaml.safe_load(CliRunner().invoke(app, ["contract", "diff", name, name]).stdout)
    assert said["read_by"][kind] == readers
    shown = CliRunner().invoke(app, ["contract", "diff", name, name, "--table"], env={"COLUMNS": "200"}).stdout
    assert all(reader in shown for reader in readers)


def test_what_an_artefact_is_said_to_read_is_what_its_readers_read() -> None:
    """The one list agrees with the modules that read the logs."""
    assert {"transactions", *feedback.READS} == set(READS["ranker_all"])
    assert query_log.READS in READS["query_lexicon"]


def test_an_unknown_revision_is_named() -> None:
    """`TABLE@REVISION` says what git has not."""
    result = CliRunner().invoke(app, ["contract", "diff", "transactions@no-such-revision", "transactions"])
    assert result.exit_code == 65
    assert "found no transactions.odcs.yaml at revision 'no-such-revision'" in result.stderr


def test_the_dictionary_is_rendered_from_the_contracts() -> None:
    """docs/data/dictionary.md lists every table, column and rule."""
    check_golden(ROOT / "docs/data/dictionary.md", dictionary())


def test_models_read_what_their_inputs_read() -> None:
    """What the modules under a model ask for is among what the model is said to read."""
    assert {*feedback.READS} <= {*READS["ranker_all"]} == {*READS["ranker_novel"]}
    assert query_log.READS in READS["query_lexicon"]
