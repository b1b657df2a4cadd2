"""Versioned datasets in a replay: made again from the shop's first day on, and found among the recorded ones."""

from datetime import datetime

from data_contracts.lake import snapshot_digest
from data_contracts.shop import load_shop
from mercato import paths
from mercato.settings import Settings
from training.datasets.builder import Inputs
from training.datasets.kinds import BUILDERS, builder
from training.datasets.versions import DatasetManifest, build, versions

FROM_TABLES = tuple(sorted(name for name, each in BUILDERS.items() if each.reads))
"""Datasets that are made of clean tables."""


def rebuild(scratch: Settings, at: datetime, name: str) -> DatasetManifest:
    """A version of a dataset in the scratch lake, of everything from the shop's first day until `at`."""
    shop = load_shop(scratch.shop)
    return build(builder(name), Inputs(paths.lake(scratch), shop, shop.window()[0], at))


def recorded(settings: Settings, name: str, at: datetime) -> DatasetManifest | None:
    """The version of a lake that `rebuild` makes again, or None."""
    first = load_shop(settings.shop).window()[0]
    found = [each for each in versions(paths.lake(settings), name) if (each.since, each.until) == (first, at)]
    return found[-1] if found else None


def from_files(settings: Settings, at: datetime) -> dict[str, list[str]]:
    """Name -> why a replay does not make it, for the datasets as of `at` that came from files."""
    lake = paths.lake(settings)
    found = {}
    for name in sorted(set(BUILDERS) - set(FROM_TABLES)):
        files = sorted({file for each in versions(lake, name) if each.until == at for file in each.inputs})
        if files:
            found[f"datasets/{name}"] = [f"people made it: {_again(name, file)}" for file in files]
    return found


def _again(name: str, source: str) -> str:
    """How a dataset is made again from one of its inputs: a file, or a batch of annotations."""
    if source.startswith("b-"):
        return f"`mercato annotation import` made it of batch {source}"
    return f"`mercato dataset build {name} --file {source}` makes it again"


def changes(settings: Settings, then: DatasetManifest) -> list[str]:
    """What is different now from when a version was made."""
    lake = paths.lake(settings)
    why = [
        f"clean/{table} was written anew since, or its contract has another version"
        for table, digest in sorted(then.inputs.items())
        if snapshot_digest(lake, table, event_before=then.until, known_before=then.until) != digest
    ]
    now = builder(then.name).contract.label
    if then.contract != now:
        why.append(f"it was made under {then.contract}, in force is {now}")
    return why or ["same rows and contract: the code or a package changed"]
