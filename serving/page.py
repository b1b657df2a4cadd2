"""The page for people: static files, and the few answers that version 1 has no business giving.

A purchase history, held-out truth and where a release came from are not part of the shop's interface:
they lie below `/page/api` and carry no promise. The app that mounts `router` holds its gateway in `app.state`.
"""

import asyncio
import hashlib
import json
import sqlite3
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.shop import Shop, load_shop
from feature_repo.customer import CustomerFeatures
from mercato import paths
from mercato.errors import StoreUnavailable
from serving.errors import ApiError, Unavailable
from serving.gateway import Gateway
from serving.runtime.catalogue import Catalogue

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
_WAITS = (0.1, 0.3, 0.0)
"""Seconds after each try to read a household."""


class NotThere(ApiError):
    """What the page asked for does not exist."""

    status = 404
    code = "not_found"


def _gateway(request: Request) -> Gateway:
    held: Gateway = request.app.state.gateway()
    return held


Held = Annotated[Gateway, Depends(_gateway)]
CustomerId = Annotated[str, PathParameter(min_length=1, max_length=128)]


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
        raise NotThere("the page has no such file", "it consists of app.js and style.css")
    return _static(request, name)


@router.get("/page/api/households")
def households(gateway: Held) -> Response:
    """The households a person can pick from, without their held-out truth."""
    listed = _households(gateway.settings.root)
    if not listed:
        raise NotThere("found no list of households", "type a customer id; only the demo writes a list")
    shown = [{name: each[name] for name in ("customer_id", "n_baskets", "label")} for each in listed.values()]
    return JSONResponse({"households": shown})


@router.get("/page/api/households/{customer_id}/history")
async def history(gateway: Held, customer_id: CustomerId) -> Response:
    """What a household bought, most often first, and what it bought after the models' last instant (None: unknown)."""
    catalogue = _catalogue(gateway)
    try:
        key = gateway.identity().find(gateway.settings.shop, customer_id)
    except (sqlite3.Error, StoreUnavailable) as error:
        raise _unread() from error
    customer, fresh = await _patiently(gateway, key) if key else (None, True)
    if customer is None and not fresh:
        raise _unread()
    listed = _households(gateway.settings.root).get(customer_id)
    return JSONResponse(
        {
            "customer_id": customer_id,
            "products": _bought(customer, catalogue, _shop(gateway.settings.shop)) if customer else [],
            "later": listed["later"] if listed else None,
            "degraded": [] if fresh else ["online_features"],
        }
    )


@router.get("/page/api/categories")
def categories(gateway: Held, ids: Annotated[str, Query(max_length=4_000)]) -> Response:
    """product_id -> category of the known ones among `ids`, separated by commas."""
    catalogue = _catalogue(gateway)
    rows = {each: catalogue.index[each] for each in ids.split(",") if each in catalogue.index}
    return JSONResponse({each: catalogue.text["category"][row] for each, row in rows.items()})


@router.get("/page/api/release/{release_id}")
def release(gateway: Held, release_id: str) -> Response:
    """Where a release came from: its manifest, its newest offline evaluation, links to the pages of its runs."""
    store = ArtefactStore(paths.lake(gateway.settings))
    try:
        manifest = store.release(release_id)
    except UnknownRelease as error:
        raise NotThere("found no such release", "take a release_id from an answer of /v1/release") from error
    except ArtefactRefused as error:
        raise Unavailable(
            "the manifest of this release does not hold", "`mercato release verify` says what changed"
        ) from error
    return JSONResponse(
        {
            "manifest": manifest.to_json(),
            "evaluation": store.evaluation(release_id),
            "links": _links(gateway.settings.root),
        }
    )


async def _patiently(gateway: Gateway, key: str) -> tuple[CustomerFeatures | None, bool]:
    """The customer, and whether it was just read; a person can wait for a slow store, a shopper cannot."""
    found: tuple[CustomerFeatures | None, bool] = (None, False)
    for wait in _WAITS:
        found = await gateway.customers.read(key)
        if found[1] or found[0] is not None:
            break
        await asyncio.sleep(wait)
    return found


def _unread() -> Unavailable:
    return Unavailable("the purchase history cannot be read right now", "recommendations still answer; try again soon")


def _catalogue(gateway: Gateway) -> Catalogue:
    routing = gateway.router.current()
    return routing.releases[routing.champion].catalogue


@cache
def _shop(name: str) -> Shop:
    return load_shop(name)


def _bought(customer: CustomerFeatures, catalogue: Catalogue, shop: Shop) -> list[dict[str, Any]]:
    """One entry per product of the history, most often (then latest) first."""
    names = catalogue.text["name"]
    found = [
        {
            "product_id": product_id,
            "name": names[row] if row >= 0 else "",
            "times": int(customer.n_purchases[at]),
            "last_bought": shop.business_day(datetime.fromtimestamp(int(customer.last_at[at]), UTC)).isoformat(),
            "every_days": round(float(customer.interval_days[at]), 1) or None,
        }
        for at, (product_id, row) in enumerate(
            zip(customer.product_ids, catalogue.rows_of(customer.product_ids).tolist(), strict=True)
        )
    ]
    found.sort(key=lambda each: (each["times"], each["last_bought"], each["product_id"]), reverse=True)
    return found


def _households(root: Path) -> dict[str, dict[str, Any]]:
    """customer_id -> entry of `demo/households.json`; empty without the file."""
    path = root / "demo" / "households.json"
    return _read_households(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=1)
def _read_households(path: Path, _changed: int) -> dict[str, dict[str, Any]]:
    return {str(each["customer_id"]): each for each in json.loads(path.read_bytes())}


def _links(root: Path) -> dict[str, str]:
    """Name -> http address from `demo/links.json`; anything else in it is left out."""
    path = root / "demo" / "links.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return {name: str(url) for name, url in found.items() if urlsplit(str(url)).scheme in {"http", "https"}}
