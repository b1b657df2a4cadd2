"""The one door to MLflow: each training run leaves its config, data digests, metrics and artefacts there."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from mercato.settings import Settings
from mercato.stores import sqlite

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")


@dataclass(frozen=True, slots=True)
class Run:
    """An open MLflow run."""

    client: Any
    run_id: str

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log scalar metrics."""
        for name, value in sorted(values.items()):
            self.client.log_metric(self.run_id, name, float(value))

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self.client.set_tag(self.run_id, name, value)

    def artefact(self, path: Path) -> None:
        """Log a file as plain data."""
        self.client.log_artifact(self.run_id, str(path))


class _Nowhere:
    """Stands for an MLflow client that keeps nothing."""

    def log_metric(self, *_: object) -> None:
        """Nothing."""

    set_tag = log_artifact = log_metric


@contextmanager
def run(settings: Settings, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Run]:
    """A run of experiment `mercato/<shop>`; FAILED when the body raises. Of the URI `none` nothing is kept."""
    if settings.mlflow() == "none":
        yield Run(_Nowhere(), "")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        settings.root.mkdir(parents=True, exist_ok=True)
        # Two first runs at once would both create the tables of a new database.
        with FileLock(settings.root / "mlflow.lock"):
            client = MlflowClient(tracking_uri=settings.mlflow())
            experiment = _experiment(client, settings)
        opened = client.create_run(experiment, run_name=name, tags=dict(tags))
        run_id = opened.info.run_id
        for key, value in sorted(params.items()):
            client.log_param(run_id, key, str(value)[:5000])
        try:
            yield Run(client, run_id)
        except BaseException:
            client.set_terminated(run_id, status="FAILED")
            raise
        client.set_terminated(run_id)


def runs_before(settings: Settings, at: datetime) -> dict[str, str]:
    """Run id -> name of the shop's runs whose artefact was fitted until an instant before `at`."""
    if settings.mlflow().startswith("sqlite:") and not sqlite.path_of(settings.mlflow()).exists():
        return {}  # asking would make the database
    client = _client(settings)
    experiment = client.get_experiment_by_name(f"mercato/{settings.shop}")
    found: dict[str, str] = {}
    page: str | None = ""
    while experiment and page is not None:
        runs = client.search_runs([experiment.experiment_id], max_results=1000, page_token=page or None)
        for each in runs:
            fitted = each.data.tags.get("fit_until", "")
            if fitted and datetime.fromisoformat(fitted) < at:
                found[each.info.run_id] = each.info.run_name
        page = runs.token or None
    return found


def delete_run(settings: Settings, run_id: str) -> None:
    """Delete a run's files, then the run; MLflow keeps its row, marked as deleted."""
    client = _client(settings)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(client.get_run(run_id).info.artifact_uri).delete_artifacts()
    client.delete_run(run_id)


def _client(settings: Settings) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=settings.mlflow())


def _experiment(client: Any, settings: Settings) -> str:
    name = f"mercato/{settings.shop}"
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    location = None if settings.mlflow_url else (settings.root / "mlartifacts").as_uri()
    return str(client.create_experiment(name, artifact_location=location))
