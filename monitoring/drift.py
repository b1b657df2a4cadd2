"""Data drift, per clean table and per feature service, as people read it: an Evidently workspace, HTML, one summary."""

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_contracts.shop import load_shop
from mercato import paths
from mercato.paths import Lake
from mercato.settings import Settings
from monitoring.drift_frames import Pair, Window, feature_pairs, table_pair
from monitoring.errors import BadWindows

THRESHOLD: Final = 0.1
"""A column drifts from this distance on."""
# Evidently's own choice depends on the number of rows (a p-value up to 1,000, a distance above), so the same shift
# would be judged differently in a small shop: distances always. Wasserstein is in standard deviations of the reference.
METHODS: Final = {"num_method": "wasserstein", "cat_method": "jensenshannon"}


@dataclass(frozen=True, slots=True)
class SubjectDrift:
    """One table, or the features of one entity in one or more services."""

    subject: str
    kind: str
    of: tuple[str, ...]
    current_rows: int
    reference_rows: int
    scores: dict[str, float]
    """Column -> distance between the two samples."""
    drifted: tuple[str, ...]
    """Columns at or above THRESHOLD."""
    html: str
    """The full report, relative to the summary; empty when nothing was compared."""
    skipped: str
    """Why nothing was compared; empty when it was."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All subjects of one pair of windows."""

    current: Window
    reference: Window
    subjects: tuple[SubjectDrift, ...]
    summary: Path
    """This report as JSON."""
    evidently: Path
    """The workspace for `evidently ui --workspace`."""

    @property
    def drifted(self) -> dict[str, tuple[str, ...]]:
        """Subject -> drifted columns, of the subjects with any."""
        return {each.subject: each.drifted for each in self.subjects if each.drifted}


def report_drift(  # noqa: PLR0913 - two windows are four instants
    lake: Lake,
    tables: Iterable[str],
    *,
    since: datetime,
    until: datetime,
    reference_since: datetime,
    reference_until: datetime,
    workspace: Path,
) -> DriftReport:
    """The drift of [since, until) against [reference_since, reference_until).

    Events are compared window against window, states and feature snapshots as they were at the end of each. The same
    windows again replace the report. Below `workspace`: `evidently/` and `reports/<until>/`.

    Raises:
        BadWindows: a window is empty, or the reference is not the earlier one.
    """
    if not (since < until and reference_since < reference_until <= until and reference_since < since):
        raise BadWindows(
            f"found the windows [{since}, {until}) and reference [{reference_since}, {reference_until}), need two that "
            "are not empty, the reference first"
        )
    current, reference = Window(since, until), Window(reference_since, reference_until)
    folder = workspace / "reports" / until.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder.mkdir(parents=True, exist_ok=True)
    project = _Project(workspace / "evidently", f"drift of {lake.shop}", current, reference)
    pairs = [table_pair(lake, table, current, reference) for table in tables]
    pairs += feature_pairs(lake, current, reference)
    subjects = tuple(_compare(pair, project, folder) for pair in pairs)
    summary = folder / "summary.json"
    windows = {
        name: {"since": w.since.isoformat(), "until": w.until.isoformat()}
        for name, w in (("current", current), ("reference", reference))
    }
    body = {"shop": lake.shop, **windows, "threshold": THRESHOLD, "subjects": [asdict(each) for each in subjects]}
    aside = summary.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(body, indent=1) + "\n")
    aside.replace(summary)
    return DriftReport(current, reference, subjects, summary, workspace / "evidently")


class _Project:
    """The Evidently project of one shop, to which the runs of one pair of windows are added."""

    def __init__(self, path: Path, name: str, current: Window, reference: Window) -> None:
        # Must be set before the import, which costs seconds and warns about NumPy's old names.
        os.environ["DO_NOT_TRACK"] = "1"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from evidently.ui.workspace import Workspace

            self._workspace = Workspace.create(str(path))
            found = list(self._workspace.search_project(name))
            self._id = (found[0] if found else self._workspace.create_project(name)).id
        self._until = current.until
        self._windows = {
            f"{side}_{edge}": getattr(window, edge).isoformat()
            for side, window in (("current", current), ("reference", reference))
            for edge in ("since", "until")
        }
        self._old = self._runs()

    def _runs(self) -> dict[str, list[Any]]:
        """Subject -> ids of the runs that an earlier report of these windows left."""
        found: dict[str, list[Any]] = {}
        for run_id in self._workspace.list_runs(self._id):
            metadata = dict(self._workspace.get_run(self._id, run_id).metadata)
            subject = str(metadata.pop("subject", ""))
            if metadata == self._windows:
                found.setdefault(subject, []).append(run_id)
        return found

    def run(self, pair: Pair) -> Any:
        """Evidently's snapshot of one pair, kept in the workspace."""
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        text = [name for name in pair.reference.columns if pair.reference[name].dtype == object]
        columns = DataDefinition(
            numerical_columns=[name for name in pair.reference.columns if name not in text], categorical_columns=text
        )
        preset = DataDriftPreset(**METHODS, num_threshold=THRESHOLD, cat_threshold=THRESHOLD)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            snapshot = Report([preset]).run(
                Dataset.from_pandas(pair.current, columns),
                Dataset.from_pandas(pair.reference, columns),
                timestamp=self._until,
                metadata={**self._windows, "subject": pair.subject},
                tags=[pair.kind, *pair.of],
                name=pair.subject,
            )
            self._workspace.add_run(self._id, snapshot)
        for run_id in self._old.get(pair.subject, ()):
            self._workspace.delete_run(self._id, run_id)
        return snapshot


def _compare(pair: Pair, project: _Project, folder: Path) -> SubjectDrift:
    """What drifted of one pair, with its HTML beside the summary."""
    rows = (len(pair.current), len(pair.reference))
    skipped = ""
    if not min(rows):
        skipped = f"no rows in the {'reference' if rows[0] else 'current'} window"
    elif not pair.reference.shape[1]:
        skipped = "nothing but ids and times"
    if skipped:
        return SubjectDrift(pair.subject, pair.kind, pair.of, *rows, {}, (), "", skipped)
    snapshot = project.run(pair)
    scores = {
        str(metric["config"]["column"]): float(np.round(metric["value"], 6))
        for metric in snapshot.dict()["metrics"]
        if metric["config"]["type"].endswith(":ValueDrift")
    }
    html = f"{pair.subject}.html"
    snapshot.save_html(str(folder / html))
    drifted = tuple(name for name, score in scores.items() if score >= THRESHOLD)
    return SubjectDrift(pair.subject, pair.kind, pair.of, *rows, scores, drifted, html, "")


def run(settings: Settings, since: datetime, until: datetime) -> dict[str, Any]:
    """The drift of the business days [since, until) against as many days before, for every table of the shop.

    Returns: what drifted (subject -> columns) and where the reports lie, as JSON values.
    """
    shop = load_shop(settings.shop)
    first, last = shop.business_day(since), shop.business_day(until)
    report = report_drift(
        paths.lake(settings),
        list(shop.tables),
        since=since,
        until=until,
        reference_since=shop.day_start(first - (last - first)),
        reference_until=since,
        workspace=settings.root / "drift",
    )
    drifted = {subject: list(columns) for subject, columns in report.drifted.items()}
    return {"subjects": len(report.subjects), "drifted": drifted, "summary": str(report.summary)}
