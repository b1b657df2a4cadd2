"""How a trained artefact is kept: its bytes by hash, an MLflow run that says how it came about, a ref to the newest."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.contract import contract_names, load_contract
from data_contracts.release import Kind, Reproducible
from mercato import paths
from mercato.settings import Settings
from training import tracking
from training.provenance import code_revision, dag_run, package_versions


def contract_versions() -> dict[str, str]:
    """Contract -> semantic version in force."""
    return {name: load_contract(name).version for name in contract_names()}


def record(  # noqa: PLR0913
    settings: Settings,
    name: str,
    save: Callable[[Path], Any],
    *,
    kind: Kind,
    fit_until: datetime,
    config: Mapping[str, Any],
    snapshots: Mapping[str, str],
    metrics: Mapping[str, float] | None = None,
    feature_service: str = "",
    reproducible: Reproducible = Reproducible.BYTES,
    beside: Sequence[Path] = (),
) -> ArtefactRef:
    """The ref of an artefact that `save` writes to the path it is given.

    Args:
        settings: where the lake and MLflow are.
        name: the artefact's name in a release.
        save: writes one file.
        kind: how the file is parsed.
        fit_until: nothing at or after this instant was seen.
        config: all that the artefact depends on beside data and code.
        snapshots: table or feature view -> digest of the data read.
        metrics: what training measured.
        feature_service: the service whose features it reads, if any.
        reproducible: what a replay may promise.
        beside: files for people that the MLflow run keeps too, such as a report.
    """
    store = ArtefactStore(paths.lake(settings))
    tags = {
        "artefact": name,
        "fit_until": fit_until.isoformat(),
        "code_revision": code_revision(),
        "dag_run": dag_run(),
        "feature_service": feature_service,
        **{f"snapshot.{table}": digest for table, digest in snapshots.items()},
        **{f"contract.{table}": version for table, version in contract_versions().items()},
    }
    with (
        tempfile.TemporaryDirectory(prefix="mercato-") as folder,
        tracking.run(settings, name, params=config, tags=tags) as run,
    ):
        file = Path(folder) / name
        save(file)
        artefact = store.put(file, kind, reproducible=reproducible)
        run.metrics(metrics or {})
        run.tag("sha256", artefact.sha256)
        for each in (file, *beside):
            run.artefact(each)
    ref = ArtefactRef(
        name=name,
        artefact=artefact,
        fit_until=fit_until,
        run_id=run.run_id,
        dag_run=dag_run(),
        snapshots=dict(snapshots),
        metrics=dict(metrics or {}),
        code_revision=code_revision(),
        contracts=contract_versions(),
        packages=package_versions(),
    )
    store.write_ref(ref)
    return ref
