"""What must hold before the demo says it works, asked over HTTP like any client."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import httpx

from data_contracts.shop import load_shop
from mercato.settings import Settings

_N_HOUSEHOLDS = 5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, and what was found."""

    rule: str
    holds: bool
    found: str


def check_gateway(settings: Settings, release_id: str, at: datetime) -> list[Check]:
    """The outcome of each rule against the gateway on `settings.url`."""
    sells = load_shop(settings.shop).sells
    listed = json.loads((settings.root / "demo" / "households.json").read_text()) if sells else []
    chosen = [each["customer_id"] for each in listed[:: max(1, len(listed) // _N_HOUSEHOLDS)]][:_N_HOUSEHOLDS]
    with httpx.Client(base_url=settings.url, timeout=30, trust_env=False) as http:
        rules: list[tuple[str, Callable[[], tuple[bool, str]]]] = [
            ("the page is served", lambda: _page(http)),
            ("the release that was assembled is live", lambda: _live(http, release_id)),
            *((f"household {each} gets recommendations", lambda each=each: _recommend(http, each)) for each in chosen),
            ("a customer never seen gets recommendations", lambda: _recommend(http, "nobody-has-this-id", whole=sells)),
            ("searching for a popular product's name finds it", lambda: _search(http)),
            ("a product has similar ones", lambda: _similar(http)),
            ("an event is accepted once", lambda: _events(http, at)),
            ("n=0 is refused with a reason", lambda: _refused(http)),
        ]
        return [_run(rule, ask) for rule, ask in rules]


def check_links(links: Mapping[str, str]) -> list[Check]:
    """Whether each page beside the gateway's answers, within a minute."""
    with httpx.Client(timeout=5, trust_env=False, follow_redirects=True) as http:
        return [_run(f"{name.replace('_', ' ')} answers", partial(_answers, http, url)) for name, url in links.items()]


def _answers(http: httpx.Client, url: str) -> tuple[bool, str]:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            found = http.get(url)
        except httpx.TransportError:  # still starting
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)
            continue
        return found.is_success and "<html" in found.text, f"HTTP {found.status_code}"


def _run(rule: str, ask: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(rule, *ask())
    except (httpx.HTTPError, KeyError, ValueError, IndexError) as error:
        return Check(rule, holds=False, found=f"{type(error).__name__}: {error}")


def _json(response: httpx.Response) -> Any:
    response.raise_for_status()
    return response.json()


def _page(http: httpx.Client) -> tuple[bool, str]:
    response = http.get("/")
    return response.status_code == httpx.codes.OK and "<html" in response.text, f"HTTP {response.status_code}"


def _live(http: httpx.Client, release_id: str) -> tuple[bool, str]:
    said = json.dumps(_json(http.get("/v1/release")))
    return release_id in said, said[:200]


def _recommend(http: httpx.Client, customer_id: str, *, whole: bool = True) -> tuple[bool, str]:
    """`whole`: nothing may be missing from the answer; a shop without sales has nothing to retrieve by."""
    answer = _json(http.post("/v1/recommend", json={"customer_id": customer_id, "n": 10}))
    n = len({each["product_id"] for each in answer["results"]})
    right = n == len(answer["results"]) == 10 and not (whole and answer["degraded"])  # noqa: PLR2004
    return right, f"{n} products, degraded {answer['degraded']}"


def _popular(http: httpx.Client) -> dict[str, Any]:
    return dict(_json(http.get("/v1/trending", params={"n": 1}))["results"][0])


def _search(http: httpx.Client) -> tuple[bool, str]:
    wanted = _popular(http)
    answer = _json(http.post("/v1/search", json={"query": wanted["name"], "n": 5}))
    names = [each["name"] for each in answer["results"]]
    return wanted["name"] in names and not answer["degraded"], f"{wanted['name']}: {'; '.join(names)[:200]}"


def _similar(http: httpx.Client) -> tuple[bool, str]:
    first = _popular(http)["product_id"]
    results = _json(http.get(f"/v1/products/{first}/similar", params={"n": 5}))["results"]
    return bool(results), f"{len(results)} like {first}"


def _events(http: httpx.Client, at: datetime) -> tuple[bool, str]:
    product = _popular(http)["product_id"]
    event = {
        "event_id": f"demo-check-{product}",
        "type": "view",
        "session_id": "demo-check",
        "product_id": product,
        "event_time": at.isoformat(),
    }
    first, second = (_json(http.post("/v1/events", json={"events": [event]})) for _ in range(2))
    once = first["accepted"] + first["duplicate"] == 1 and second["duplicate"] == 1
    return once, f"first {first}, again {second}"


def _refused(http: httpx.Client) -> tuple[bool, str]:
    response = http.post("/v1/recommend", json={"n": 0})
    message = response.json()["error"]["message"]
    return response.status_code == httpx.codes.UNPROCESSABLE_ENTITY, f"HTTP {response.status_code}: {message}"[:200]
