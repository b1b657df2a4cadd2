"""What a demo made, and whether a second one may use it: a hash over all that decides the release."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_contracts.shop import Shop
from data_contracts.sources import PackageParquet
from data_contracts.tables import Table
from mercato.demo_airflow import REPOSITORY
from mercato.paths import canonical_json
from mercato.settings import Settings
from training.adapters import local_files

TRUTH = timedelta(weeks=4)
"""Held back at the end of the history: what arrives while the demo serves."""
_CODE = ("dags", "data_contracts", "feature_repo", "mercato", "monitoring", "serving/runtime", "training")
_KINDS = (".py", ".yaml", ".csv", ".json")
"""Code, and the words, labels and judgments that models are made of and judged by."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The instants of a demo, and the digest of all that decides its outcome."""

    since: datetime
    until: datetime
    at: datetime
    """The demo's present: models are as of this instant, the shop's clock starts here."""
    digest: str

    def conf(self) -> dict[str, str]:
        """What `bootstrap` is started with."""
        return {name: getattr(self, name).isoformat() for name in ("since", "until", "at")}


def plan(settings: Settings, shop: Shop) -> Plan:
    """The plan of a shop: its whole history, as of the last Monday with four whole weeks after it."""
    since, until = shop.window()
    last = shop.business_day(until - TRUTH)
    at = shop.day_start(last - timedelta(days=last.weekday()))
    said = {
        "shop": shop.model_dump(mode="json"),
        "data": settings.data_root(),
        "public_sets": str(settings.public_sets),
        "code": {str(path.relative_to(REPOSITORY)): _sha256(path) for part in _CODE for path in _sources(part)},
        "sources": {name: _fingerprint(table) for name, table in shop.tables.items()},
        "packages": {name: version(name) for name in ("duckdb", "implicit", "lightgbm", "faiss-cpu", "onnxruntime")},
        "at": at.isoformat(),
    }
    return Plan(since, until, at, hashlib.sha256(canonical_json(said)).hexdigest())


def _sources(part: str) -> list[Path]:
    path = REPOSITORY / part
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in _KINDS)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fingerprint(table: Table) -> Any:
    """Size and time of the files behind a source; their content is hashed when they are extracted. Others: nothing."""
    source = table.source
    if isinstance(source, PackageParquet):
        spec = find_spec(source.package)
        files = (
            [Path(spec.submodule_search_locations[0]) / source.path] if spec and spec.submodule_search_locations else []
        )
    else:
        files = list(local_files(table))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]


@dataclass(frozen=True, slots=True)
class Made:
    """What the last whole demo left: `home/demo/state.json`."""

    digest: str
    release_id: str
    run_id: str


def remember(settings: Settings, made: Made) -> None:
    """Keep `made`, whole or not at all."""
    path = settings.root / "demo" / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(asdict(made), indent=1))
    aside.replace(path)


def current(settings: Settings, digest: str) -> Made | None:
    """The last demo, when the same one would come out again and its release is live; None otherwise."""
    from mercato.stores.routing import routing_store

    path = settings.root / "demo" / "state.json"
    try:
        made = Made(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    live = routing_store(settings).live(settings.shop)
    return made if made.digest == digest and live is not None and made.release_id in live.weights else None
