"""What changed between two versions of a contract, and whether somebody who was right before can be wrong after.

The policy is in docs/data/contracts.md; the lock file keeps what was last agreed.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_contracts.contract import CONTRACTS, Column, Contract, RowArguments, TableRule, contract_names, load_contract
from data_contracts.datasets import DATASETS, dataset_names
from data_contracts.errors import BadContract

LOCK = CONTRACTS / "contracts.lock.json"
Level = Literal["major", "minor", "patch"]
_WEIGHT: dict[str, int] = {"": 0, "patch": 1, "minor": 2, "major": 3}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    where: str
    """`column`, `column.rule` or the name of a table rule; empty for the table itself."""
    what: str
    level: Level

    @property
    def breaking(self) -> bool:
        """Whether it needs a new major version."""
        return self.level == "major"


def changes(old: Contract, new: Contract) -> list[Change]:
    """Every difference between two versions of one table's contract, in the order of the columns."""
    found: list[Change] = []
    if old.key != new.key:
        found.append(Change("", f"key {', '.join(old.key)} became {', '.join(new.key)}", "major"))
    before, after = ({column.name: column for column in each.columns} for each in (old, new))
    for name in [*before, *[name for name in after if name not in before]]:
        if name not in after:
            found.append(Change(name, "column removed", "major"))
        elif name not in before:
            required = after[name].required
            found.append(Change(name, f"{'required ' * required}column added", "major" if required else "minor"))
        else:
            found.extend(_column(before[name], after[name]))
    found.extend(_table_rules(old.table_rules, new.table_rules))
    said = {"version", "tables"}
    if not found and old.model_dump(exclude=said) != new.model_dump(exclude=said):
        found.append(Change("", "status, domain, team or description changed", "patch"))
    if not found and old.model_dump(exclude={"version"}) != new.model_dump(exclude={"version"}):
        found.append(Change("", "descriptions or order changed", "patch"))
    return found


def _column(old: Column, new: Column) -> Iterator[Change]:
    name = old.name
    if old.logicalType != new.logicalType:
        yield Change(name, f"type {old.logicalType} became {new.logicalType}", "major")
    if old.required != new.required:
        yield Change(name, "optional became required" if new.required else "required became optional", "major")
    if old.classification != new.classification:
        order = ("public", "internal", "confidential")
        stricter = order.index(new.classification) > order.index(old.classification)
        yield Change(
            name, f"classification {old.classification} became {new.classification}", "major" if stricter else "minor"
        )
    before, after = ({rule.name: rule for rule in column.quality} for column in (old, new))
    for each in sorted(before.keys() | after.keys()):
        was, now = before.get(each), after.get(each)
        promised = was.arguments if was and was.severity == "error" else RowArguments()
        promises = now.arguments if now and now.severity == "error" else RowArguments()
        where = f"{name}.{each}"
        if promised == promises:
            if was is None or now is None or (was.severity, was.arguments) != (now.severity, now.arguments):
                yield Change(where, "warning added, removed or changed", "minor")
        elif _as_strict(promises, promised):
            yield Change(where, "rule added or tightened", "minor")
        else:
            yield Change(where, "rule removed or loosened: readers may meet values that they never saw", "major")


def _as_strict(new: RowArguments, old: RowArguments) -> bool:
    """Whether every value that holds under `new` held under `old`, as far as that can be told."""
    if old.minimum is not None and (new.minimum is None or new.minimum < old.minimum):
        return False
    if old.maximum is not None and (new.maximum is None or new.maximum > old.maximum):
        return False
    if old.validValues and not (new.validValues and set(new.validValues) <= set(old.validValues)):
        return False
    return old.pattern in ("", new.pattern) and old.notBefore in ("", new.notBefore)


def _table_rules(old: tuple[TableRule, ...], new: tuple[TableRule, ...]) -> Iterator[Change]:
    """A table rule decides whether a run goes on, never which rows are there: none of these is breaking."""
    before, after = ({rule.name: rule for rule in each} for each in (old, new))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            yield Change(name, f"table rule {'added' if was is None else 'removed'}", "minor")
        elif was.model_dump(exclude={"description"}) != now.model_dump(exclude={"description"}):
            yield Change(name, "table rule changed", "minor")


def needed(found: Iterable[Change]) -> Level | Literal[""]:
    """The part of the version that must grow; empty when nothing changed."""
    return max((each.level for each in found), key=lambda level: _WEIGHT[level], default="")


def grown(old: str, new: str) -> Level | Literal[""]:
    """Which part of a version grew from `old` to `new`; empty when none did."""
    before, after = ([int(part) for part in each.split(".")] for each in (old, new))
    names: tuple[Level, ...] = ("major", "minor", "patch")
    for name, was, now in zip(names, before, after, strict=True):
        if was != now:
            return name if now > was else ""
    return ""


def complaint(old: Contract, new: Contract) -> str:
    """What is wrong with the new version's number, in words; empty when it grew enough."""
    found = changes(old, new)
    need, has = needed(found), grown(old.version, new.version)
    if _WEIGHT[has] >= _WEIGHT[need]:
        return ""
    worst = [f"{each.where or new.name}: {each.what}" for each in found if each.level == need]
    return (
        f"{new.name} went from {old.version} to {new.version}, and {'; '.join(worst)}; "
        f"that needs a new {need} version: raise `version` in {new.name}.odcs.yaml"
    )


def contracts() -> dict[str, Contract]:
    """Name -> contract of every table, those of datasets as `datasets/<name>`."""
    return {
        **{name: load_contract(name) for name in contract_names()},
        **{f"datasets/{name}": load_contract(name, DATASETS) for name in dataset_names()},
    }


def locked(path: Path = LOCK) -> dict[str, Contract]:
    """Name -> contract as it was last agreed; empty when there is no lock yet."""
    if not path.exists():
        return {}
    return {name: Contract.model_validate(body) for name, body in json.loads(path.read_text()).items()}


def lock_text(found: dict[str, Contract]) -> str:
    """The lock file of some contracts: each in full without its defaults, one key a line."""
    bodies = {name: each.model_dump(mode="json", by_alias=True, exclude_defaults=True) for name, each in found.items()}
    return json.dumps(bodies, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def complaints(old: dict[str, Contract], new: dict[str, Contract]) -> list[str]:
    """What stands between the contracts and the lock, one sentence each; empty when every version grew enough."""
    gone = [
        f"{name} {each.version} is gone: whoever reads it breaks; keep it with `status: retired`"
        for name, each in old.items()
        if name not in new and each.status != "retired"
    ]
    return gone + [text for name, each in new.items() if name in old and (text := complaint(old[name], each))]


def write_lock(path: Path = LOCK) -> list[str]:
    """Names of the contracts whose lock changed; BadContract while a version has not grown enough."""
    old, new = locked(path), contracts()
    wrong = complaints(old, new)
    if wrong:
        raise BadContract("; ".join(wrong))
    path.write_text(lock_text(new))
    return sorted(name for name in new.keys() | old.keys() if old.get(name) != new.get(name))


def as_rows(found: list[Change]) -> list[dict[str, Any]]:
    """The changes as JSON values."""
    return [{"where": each.where, "what": each.what, "breaking": each.breaking} for each in found]
