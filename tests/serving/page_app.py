"""A small app around the page's router: version 1 answered from a handful of real products, faults on demand."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from data_contracts.errors import UnknownRelease
from data_contracts.release import Artefact, Kind, Manifest, Provenance, ReleaseIdentity
from mercato.errors import StoreUnavailable
from serving.page import router

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
NAMES = (
    "Fluid Milk White Only 1 GA", "Bananas 40 LB", "Mainstream White Bread 20 OZ", "Gasoline-Reg Unleaded", "Large Eggs 1 DZ",
    "Shredded Cheese 8 OZ", "Soft Drinks 12/18&15Pk Can 12 OZ", "Yogurt Not Multi-Packs 6 OZ", "Strawberries 16 OZ",
    "Choice Beef Chuck", "Potato Chips 11.5 OZ", "Tortilla/Nacho Chips 13 OZ", "Kids Cereal 15 OZ", "Butter 16 OZ",
    "Sour Creams 16 OZ", "Condensed Soup 10.75 OZ", "Premium Ice Cream 56 OZ", "Lean Ground Beef", "Head Lettuce", HOSTILE,
)  # fmt: skip
IDS = tuple(str(1_000_000 + 37 * i) for i in range(len(NAMES)))
NOW = int(datetime(2017, 12, 4, 5, tzinfo=UTC).timestamp())

_ARTEFACTS = ("als", "co_purchase", "ease", "keyword_index", "product_features", "ranker_all", "ranker_novel", "vector_index")
MANIFEST = Manifest.of(
    ReleaseIdentity(
        shop="complete_journey",
        artefacts={name: Artefact(kind=Kind.NPZ, sha256=f"{i + 10:064x}"[::-1]) for i, name in enumerate(_ARTEFACTS)},
        feature_services={"ranker_v1": "9f2c"},
        contracts={"transactions": "1.0.0"},
    ),
    Provenance(
        runs={name: f"{i + 3:032x}"[::-1] for i, name in enumerate(_ARTEFACTS)},
        snapshots={"transactions": "ab" * 32, "customer_history": "cd" * 32},
        fit_until=datetime(2017, 12, 4, 5, tzinfo=UTC),
        code_revision="0123456789abcdef0123456789abcdef01234567",
        dag_runs={name: "train_als/manual__2017-12-04T05:00:00+00:00" for name in _ARTEFACTS},
        metrics={
            "all/ndcg_at_10/served": 0.4252, "all/ndcg_at_10/served_low": 0.4121, "all/ndcg_at_10/served_high": 0.4379,
            "all/ndcg_at_10/frequency": 0.397, "all/ndcg_at_10/decay_popularity": 0.42,
            "all/gain_over_rival/decay_popularity": 0.0052, "all/gain_over_rival/decay_popularity_low": 0.0011,
            "all/gain_over_rival/decay_popularity_high": 0.0092, "novel/ndcg_at_10/served": 0.0531,
            "novel/ndcg_at_10/popularity": 0.042, "novel/ndcg_at_10/ease": 0.048,
        },
    ),
)  # fmt: skip


@dataclass
class FakeShop:
    """Products, one known household (900) with a history, and switches for faults."""

    home: Path
    degraded: list[str] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def history(self, customer_id: str) -> dict[str, Sequence[Any]] | None:
        """Household 900 bought the first eighteen products, the first most often."""
        if "history" in self.down:
            raise StoreUnavailable("the online store is locked")
        if customer_id != "900":
            return None
        n = 18
        return {
            "product_ids": list(IDS[:n]),
            "n_purchases": [40 - 2 * i for i in range(n)],
            "last_at": [NOW - 86_400 * (1 + i * i) for i in range(n)],
            "interval_days": [0.0 if i == 17 else 7.3 + i for i in range(n)],
        }

    def names(self, product_ids: Sequence[str]) -> list[str]:
        """The name of each product."""
        return [dict(zip(IDS, NAMES, strict=True)).get(p, "") for p in product_ids]

    def manifest(self, release_id: str) -> Manifest:
        """The one release."""
        if release_id != MANIFEST.release_id:
            raise UnknownRelease("found no release")
        return MANIFEST

    def product(self, i: int, *, explain: bool = False) -> dict[str, Any]:
        """One ranked product as version 1 answers it."""
        found = {"product_id": IDS[i], "name": NAMES[i], "price": 0.99 + i, "score": 1 / (i + 1)}
        scores = {"scores": {"als": 0.5 / (i + 1), "ease": 0.25, "ranker": 1.75 - i / 10, "final": 1.75 - i / 10}}
        return found | {"reasons": ["you buy this about every 7 days", "on promotion"]} | (scores if explain else {})

    def answer(self, results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """A ranked answer."""
        return {"request_id": "req-1", "release_id": MANIFEST.release_id, "degraded": self.degraded, "results": results} | more


def shop_with_demo(home: Path) -> FakeShop:
    """A shop whose demo wrote its households (900 and some hundreds) and its links."""
    demo = home / "demo"
    demo.mkdir(parents=True)
    rows = [{"customer_id": str(900 + i), "n_baskets": 119 - i // 5, "later": []} for i in range(300)]
    rows[0]["later"] = [IDS[0], IDS[2], IDS[4], IDS[19]]
    listed = [row | {"label": f"household {row['customer_id']} — {row['n_baskets']} baskets"} for row in rows]
    (demo / "households.json").write_text(json.dumps(listed))
    links = {"airflow": "http://127.0.0.1:8080", "mlflow": "http://127.0.0.1:5000", "drift": "javascript:alert(1)"}
    (demo / "links.json").write_text(json.dumps(links))
    return FakeShop(home)


def app_of(shop: FakeShop) -> FastAPI:
    """The page's router, and the routes of version 1 that the page calls."""
    app = FastAPI()
    app.state.page = shop
    app.include_router(router)

    @app.middleware("http")
    async def faults(request: Request, call_next: Any) -> Any:
        if any(part in request.url.path for part in shop.down if part != "history"):
            error = {"code": "unavailable", "message": "no release is loaded", "hint": "try again", "request_id": "req-9"}
            return JSONResponse({"error": error}, status_code=503, headers={"retry-after": "1"})
        return await call_next(request)

    @app.post("/v1/recommend")
    def recommend(body: dict[str, Any]) -> dict[str, Any]:
        shop.asked.append(("recommend", body))
        order = range(10, 20) if body["goal"] == "novel" else range(10)
        return shop.answer([shop.product(i, explain=body["explain"]) for i in order])

    @app.post("/v1/search")
    def search(body: dict[str, Any]) -> dict[str, Any]:
        shop.asked.append(("search", body))
        words = body["query"].lower().split()
        found = [shop.product(i) for i, name in enumerate(NAMES) if any(w in name.lower() for w in words)]
        return shop.answer([each | {"category": "GROCERY"} for each in found], total=len(found), facets={})

    @app.get("/v1/products/{product_id}")
    def product(product_id: str) -> dict[str, Any]:
        i = IDS.index(product_id)
        return shop.product(i) | {"category": "GROCERY", "brand": "Private", "package_size": "1 GA"}

    @app.get("/v1/products/{product_id}/similar")
    def similar(product_id: str, n: int = 10) -> dict[str, Any]:
        at = IDS.index(product_id)
        return shop.answer([shop.product(i) for i in range(len(IDS)) if i != at][:n])

    return app


@contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The app's address while it listens on loopback."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
