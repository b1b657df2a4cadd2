"""Contracts of training datasets, `<name>.odcs.yaml` beside this file."""

from pathlib import Path

DATASETS = Path(__file__).parent


def dataset_names() -> list[str]:
    """The datasets that have a contract, sorted."""
    return sorted(path.name.removesuffix(".odcs.yaml") for path in DATASETS.glob("*.odcs.yaml"))
