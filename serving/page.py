"""The page for people: static files, and the few answers that version 1 has no business giving.

A purchase history and the held-out truth are not part of the shop's interface, so they live below `/page/api`.
The gateway puts a `PageSource` on `app.state.page` and mounts `router`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse

from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.release import Manifest
from mercato.errors import TransientError

router = APIRouter(include_in_schema=False)

_FILES = {"index.html": "text/html", "app.js": "text/javascript", "style.css": "text/css"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_BOUND = re.compile(r"(.+)[_/.](low|high)")

CustomerId = Annotated[str, PathParameter(min_length=1, max_length=64)]


class PageSource(Protocol):
    """What the page reads from the gateway that mounts it."""

    @property
    def home(self) -> Path:
        """Folder that may hold `demo/households.json` and `demo/links.json`."""

    def history(self, customer_id: str) -> Mapping[str, Sequence[Any]] | None:
        """The customer_history row of a shop's own id, or None; may raise TransientError."""

    def names(self, product_ids: Sequence[str]) -> Sequence[str]:
        """One name per product, empty where the catalogue does not know it."""

    def manifest(self, release_id: str) -> Manifest:
        """The manifest of a release, verified; UnknownRelease."""


def _source(request: Request) -> PageSource:
    source: PageSource = request.app.state.page
    return source


Source = Annotated[PageSource, Depends(_source)]


@cache
def _file(name: str) -> tuple[bytes, str]:
    """Bytes and entity tag of a static file."""
    body = (Path(__file__).parent / "page" / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def _static(request: Request, name: str) -> Response:
    body, tag = _file(name)
    headers = {**_HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=f"{_FILES[name]}; charset=utf-8", headers=headers)


@router.get("/")
def index(request: Request) -> Response:
    """The page."""
    return _static(request, "index.html")


@router.get("/page/{name}")
def static_file(request: Request, name: str) -> Response:
    """The page's script or style."""
    if name not in _FILES:
        return _problem(
            request, 404, "not_found", f"found no file {name[:64]!r}", "the page consists of app.js, style.css"
        )
    return _static(request, name)


@router.get("/page/api/households")
def households(request: Request, source: Source) -> Response:
    """The households a person can pick from, without their held-out truth."""
    listed = _households(source.home)
    if not listed:
        return _problem(
            request, 404, "no_households", "found no list of households", "type a customer id, or run the demo once"
        )
    return JSONResponse(
        {"households": [{k: each[k] for k in ("customer_id", "n_baskets", "label")} for each in listed.values()]}
    )


@router.get("/page/api/households/{customer_id}/history")
def history(request: Request, source: Source, customer_id: CustomerId) -> Response:
    """What a household bought, most often first, and what it bought after the models' last day (None: not known)."""
    try:
        row = source.history(customer_id)
    except TransientError:
        hint = "recommendations still answer; try again in a moment"
        return _problem(request, 503, "history_unavailable", "the purchase history cannot be read now", hint)
    bought = _bought(row, source) if row else []
    listed = _households(source.home).get(customer_id)
    return JSONResponse({"customer_id": customer_id, "products": bought, "later": listed["later"] if listed else None})


@router.get("/page/api/release/{release_id}")
def release(request: Request, source: Source, release_id: str) -> Response:
    """Where a release came from: its manifest, its offline evaluation, and links to the runs' own pages."""
    try:
        manifest = source.manifest(release_id)
    except UnknownRelease:
        return _problem(request, 404, "unknown_release", f"found no release {release_id[:64]!r}", "see /v1/release")
    except ArtefactRefused:
        hint = "the release still answers from memory; `mercato release verify` says what changed"
        return _problem(request, 503, "release_unreadable", "the manifest of this release does not hold", hint)
    return JSONResponse(
        {
            "manifest": manifest.to_json(),
            "evaluation": evaluation(manifest.provenance.metrics),
            "links": _links(source.home),
        }
    )


@dataclass(slots=True)
class _Measured:
    value: float | None = None
    bounds: dict[str, float] = field(default_factory=dict)


def evaluation(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Tables of a release's offline metrics: `[{title, rows: [{name, value, low, high}]}]`, best row first.

    A metric is named `goal/measure/system`; its interval's ends carry `_low` and `_high` behind.
    """
    measured: dict[str, _Measured] = {}
    for name, value in metrics.items():
        bound = _BOUND.fullmatch(name)
        if bound:
            measured.setdefault(bound[1], _Measured()).bounds[bound[2]] = value
        else:
            measured.setdefault(name, _Measured()).value = value
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, each in measured.items():
        group, _, last = name.rpartition("/")
        low, high = each.bounds.get("low"), each.bounds.get("high")
        row = {"name": last.replace("_", " "), "value": each.value, "low": low, "high": high}
        tables.setdefault(group, []).append(row)
    for rows in tables.values():
        rows.sort(key=lambda row: (row["value"] is None, -(row["value"] or 0.0), row["name"]))
    return [{"title": _title(group), "rows": rows} for group, rows in sorted(tables.items())]


def _title(group: str) -> str:
    return group.replace("/", ", ").replace("ndcg_at_", "NDCG@").replace("_at_", "@").replace("_", " ")


def _bought(row: Mapping[str, Sequence[Any]], source: PageSource) -> list[dict[str, Any]]:
    """One entry per product of a customer_history row, most often (then latest) first."""
    columns = (row["product_ids"], row["n_purchases"], row["last_at"], row["interval_days"])
    found = [
        {
            "product_id": product_id,
            "name": name,
            "times": int(times),
            "last_bought": datetime.fromtimestamp(int(last), UTC).isoformat(),
            "every_days": round(float(every), 1) if every > 0 else None,
        }
        for name, product_id, times, last, every in zip(source.names(row["product_ids"]), *columns, strict=True)
    ]
    found.sort(key=lambda each: (each["times"], each["last_bought"], each["product_id"]), reverse=True)
    return found


def _households(home: Path) -> dict[str, dict[str, Any]]:
    """customer_id -> entry of `demo/households.json`; empty without the file."""
    path = home / "demo" / "households.json"
    return _read_households(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=1)
def _read_households(path: Path, _changed: int) -> dict[str, dict[str, Any]]:
    return {str(each["customer_id"]): each for each in json.loads(path.read_bytes())}


def _links(home: Path) -> dict[str, str]:
    """Name -> http address from `demo/links.json`; anything else in it is left out."""
    path = home / "demo" / "links.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return {name: str(url) for name, url in found.items() if urlsplit(str(url)).scheme in {"http", "https"}}


def _problem(request: Request, status: int, code: str, message: str, hint: str) -> JSONResponse:
    """An error in the shape of version 1."""
    request_id = request.headers.get("x-request-id", "")
    headers = {"retry-after": "1"} if status == 503 else {}  # noqa: PLR2004
    error = {"code": code, "message": message, "hint": hint, "request_id": request_id}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
