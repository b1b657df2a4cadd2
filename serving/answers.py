"""The functions behind every door: a request in, an answer out, an impression logged. Plain values, no HTTP.

They run on the event loop: a ranking takes a few milliseconds of one core, less than handing it to a thread
and waiting for the interpreter costs. Only the online store, which may hang, is read in a thread.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import structlog

from data_contracts.merchandising import Rule
from feature_repo.customer import CustomerFeatures
from feature_repo.ranker_features import FEATURE_NAMES
from feature_repo.text import query_text
from mercato.errors import StoreUnavailable
from mercato.stores.events import microseconds
from serving import metrics
from serving.errors import UnknownCategory, UnknownProduct
from serving.gateway import Gateway
from serving.impressions import Impression
from serving.loading import LiveRelease
from serving.runtime import pipeline
from serving.runtime.delta import shown_name
from serving.runtime.pipeline import Stages
from serving.runtime.query.relax import find
from serving.runtime.query.understand import understand
from serving.runtime.search import SearchResult
from serving.runtime.understanding import Bounds, Understanding, as_written
from serving.schemas import ProductBody, RecommendRequest, SearchRequest, major, minor

log = structlog.get_logger()
Answer = dict[str, Any]
Surface = Literal["recommend", "search", "similar", "trending"]
_PARTS = {
    pipeline.RANKER_MISSING: "ranker",
    pipeline.RANKER_FAILED: "ranker",
    pipeline.NON_FINITE: "ranker",
    pipeline.RETRIEVAL_MISSING: "retrieval",
    pipeline.CUSTOMER_FEATURES_BAD: "online_features",
    "encoder": "encoder",
    "index": "index",
}


@dataclass(frozen=True, slots=True)
class Who:
    """The shopper of a request, and what answers it."""

    live: LiveRelease
    arm: str
    customer_key: str | None
    session_id: str | None
    degraded: tuple[str, ...] = ()


def who(gateway: Gateway, request_id: str, customer_id: str | None = None, session_id: str | None = None) -> Who:
    """The customer's key, and the release that the customer, else the session, else the request is assigned to."""
    routing = gateway.router.current()
    key: str | None = None
    degraded: tuple[str, ...] = ()
    if customer_id is not None:
        try:
            key = gateway.identity().find(gateway.settings.shop, customer_id)
        except (sqlite3.Error, StoreUnavailable) as error:
            log.warning("identity.failed", reason=str(error))
            degraded = ("online_features",)
    live, arm = routing.choose(key or session_id or request_id)
    return Who(live, arm, key, session_id, degraded)


async def recommend(gateway: Gateway, request: RecommendRequest, request_id: str) -> Answer:
    """Products for a customer, a basket or a page."""
    asked = who(gateway, request_id, request.customer_id, request.session_id)
    customer, degraded = await _customer(gateway, asked)
    exclude = [*request.exclude, *gateway.changes.gone(asked.live)]
    call = pipeline.Request(request.n, request.product_ids, request.goal, exclude, request.explain)
    stages, failed = _rank(asked.live, call, customer, gateway)
    _count_faults(stages, asked.live.release_id)
    _log_stages(gateway, asked, stages, request_id)
    results = [
        _result(asked.live, each.row, each.score, each.reasons, each.scores if request.explain else None)
        for each in stages.results
    ]
    return _answer(asked.live, request_id, (*degraded, *failed, *stages.degraded), results)


async def _customer(gateway: Gateway, asked: Who) -> tuple[CustomerFeatures | None, tuple[str, ...]]:
    """What is known of the shopper, and what did not work to find it."""
    if asked.customer_key is None:
        return None, asked.degraded
    customer, fresh = await gateway.customers.read(asked.customer_key)
    return customer, asked.degraded if fresh else ("online_features",)


def _rank(
    live: LiveRelease, call: pipeline.Request, customer: CustomerFeatures | None, gateway: Gateway
) -> tuple[Stages, tuple[str, ...]]:
    """The pipeline's answer; what is popular when the pipeline itself fails."""
    try:
        return pipeline.rank(call, customer, live.catalogue, live.artefacts, gateway.now()), ()
    except Exception:
        # Whatever breaks in there, the shopper gets what is popular.
        log.exception("rank.failed", release_id=live.release_id)
        metrics.HARD_FAULTS.labels("rank_raised").inc()
        plain = pipeline.Request(call.n, (), call.goal, call.exclude)
        return pipeline.rank(plain, None, live.catalogue, live.artefacts, gateway.now()), ("ranker", "retrieval")


async def search(gateway: Gateway, request: SearchRequest, request_id: str) -> Answer:
    """One page of products that match a query, or of a category."""
    asked = who(gateway, request_id, request.customer_id, request.session_id)
    customer, degraded = await _customer(gateway, asked) if request.query.split() else (None, ())
    live = asked.live
    wanted, digits = request.filters, live.shop.minor_digits
    prices = minor(wanted.price_min, digits), minor(wanted.price_max, digits)
    filters = Bounds(wanted.category, wanted.brand, *prices, wanted.in_stock)
    understood = _understood(gateway, live, request)

    def rules(meant: Understanding) -> list[Rule]:
        queries = {query_text(request.query), understood.text, meant.text}
        return gateway.rules.applying(queries=queries, category=wanted.category, segment=request.segment)

    page = {"n": request.n, "offset": request.offset, "filters": filters, "exclude": request.exclude}
    lexicon = live.lexicon if gateway.settings.enable_query_enhancement else None
    found, meant, relaxed = find(live.search, lexicon, understood, request.refuse, page, customer=customer, rules=rules)
    for each in relaxed:
        metrics.RELAXED.labels(each.partition(":")[0]).inc()
    _log_found(gateway, asked, "search", found, request_id, first=request.offset + 1)
    results = _page(live, found, explain=request.explain)
    return {
        **_answer(live, request_id, (*degraded, *found.degraded), results),
        "total": found.total,
        "facets": {**found.facets, "price": _price_facet(found.price_ranges, digits)},
        "understood": _shown_understanding(meant, digits, explain=request.explain),
        "relaxed": relaxed,
        **({"rules": [_shown_rule(rule, found) for rule in rules(meant)]} if request.explain else {}),
    }


def _understood(gateway: Gateway, live: LiveRelease, request: SearchRequest) -> Understanding:
    if live.lexicon is None or not gateway.settings.enable_query_enhancement:
        return as_written(request.query)
    with metrics.QUERY_SECONDS.time():
        understood = understand(request.query, live.lexicon, refuse=request.refuse, new_stems=live.search.new_stems)
    metrics.QUERIES.labels(understood.query_class).inc()
    for step in understood.trace:
        metrics.QUERY_STEPS.labels(step.step).inc()
    return understood


def _price_facet(ranges: Sequence[tuple[int, int | None, int]], digits: int) -> dict[str, int]:
    """The ranges by label, in major units."""
    return {
        f"{_plain(low, digits)}-{'' if high is None else f'{high / 10**digits:.{digits}f}'}": count
        for low, high, count in ranges
    }


def _plain(minor_units: int, digits: int) -> str:
    """In major units, without an exponent or zeros behind the point."""
    return f"{Decimal(minor_units).scaleb(-digits).normalize():f}"


def _shown_rule(rule: Rule, found: SearchResult) -> Answer:
    return {
        **rule.model_dump(mode="json", include={"id", "action", "owner", "start", "end"}),
        "products": found.touched.get(rule.id, 0),
    }


def _shown_understanding(understood: Understanding, digits: int, *, explain: bool) -> Answer:
    low, high = understood.bounds.price_min_minor, understood.bounds.price_max_minor
    shown = {
        "text": understood.text,
        "query_class": understood.query_class,
        "phrases": list(understood.phrases),
        "price_min": None if low is None else low / 10**digits,
        "price_max": None if high is None else high / 10**digits,
        "boosts": dict(understood.boosts),
    }
    return {**shown, "trace": [asdict(step) for step in understood.trace]} if explain else shown


def suggest(gateway: Gateway, typed: str, n: int, request_id: str) -> Answer:
    """What a shopper may be about to type."""
    live = who(gateway, request_id).live
    found = live.suggester.suggest(typed, n, live.search.gone_names)
    return {
        "request_id": request_id,
        "release_id": live.release_id,
        "suggestions": [{"text": each.text, "kind": each.kind} for each in found],
    }


def similar(gateway: Gateway, product_id: str, n: int, request_id: str) -> Answer:
    """The products most like one product."""
    asked = who(gateway, request_id)
    engine = asked.live.search
    if product_id not in engine.row:
        raise _unknown(product_id)
    found = engine.similar(engine.row[product_id], n=n)
    _log_found(gateway, asked, "similar", found, request_id)
    return _answer(asked.live, request_id, (), _page(asked.live, found, explain=False))


def trending(gateway: Gateway, category: str | None, n: int, request_id: str) -> Answer:
    """What sells now, in one category or spread over all."""
    asked = who(gateway, request_id)
    catalogue = asked.live.catalogue
    code: int | None = None
    if category is not None:
        names = {name.casefold(): code for name, code in catalogue.category_index.items()}
        code = names.get(category.casefold())
        if code is None:
            raise UnknownCategory(
                f"no category is called {_shown(category)}", "take a value of facets.category in a search answer"
            )
    gone = catalogue.rows_of(gateway.changes.gone(asked.live))
    rows, scores = gateway.trends.first(catalogue, n + len(gone), code)
    keep = np.flatnonzero(~np.isin(rows, gone))[:n]
    rows, scores = rows[keep], scores[keep]
    ids = [catalogue.product_ids[row] for row in rows.tolist()]
    _log_rows(gateway, asked, "trending", ids, scores, request_id=request_id)
    where = f"popular in {category}" if category is not None else "popular this week"
    results = [_result(asked.live, int(row), float(score), (where,)) for row, score in zip(rows, scores, strict=True)]
    return _answer(asked.live, request_id, (), results)


def product(gateway: Gateway, product_id: str, request_id: str) -> Answer:
    """One product of the release that is live."""
    live = who(gateway, request_id).live
    names = ("name", "brand", "category", "department", "product_type", "package_size")
    answer = {"request_id": request_id, "release_id": live.release_id, "product_id": product_id}
    if (change := gateway.changes.of(product_id, live)) is not None:
        if change.body is None:
            raise _unknown(product_id)
        return {
            **answer,
            **{name: change.body.get(name) or "" for name in names},
            "name": shown_name(change.body),
            "price": major(int(change.body.get("list_price_minor") or 0), live.shop.minor_digits),
            "currency": live.shop.currency,
            "on_promotion": False,
        }
    row = _row(live, product_id)
    return {
        **answer,
        **{name: live.catalogue.text[name][row] for name in names},
        "price": major(int(live.catalogue.stats["price_minor"][row]), live.shop.minor_digits),
        "currency": live.shop.currency,
        "on_promotion": bool(live.catalogue.stats["on_promotion"][row]),
    }


def put_product(gateway: Gateway, product_id: str, body: ProductBody | None, request_id: str) -> Answer:
    """A product as it is from now on, or gone (None): kept on the disk, and searchable here."""
    columns: dict[str, Any] | None = None
    if body is not None:
        digits = gateway.router.current().releases[gateway.router.current().champion].shop.minor_digits
        columns = body.model_dump(exclude={"price", "attributes"})
        columns["list_price_minor"] = minor(body.price, digits)
        columns["attributes"] = "; ".join(f"{name}: {value}" for name, value in body.attributes.items()) or None
    at = gateway.changes.put(product_id, columns)
    changed_at = datetime.fromtimestamp(at / 1e6, UTC).isoformat()
    return {"request_id": request_id, "product_id": product_id, "changed_at": changed_at}


def release(gateway: Gateway, request_id: str) -> Answer:
    """What is live here."""
    routing = gateway.router.current()
    live = routing.releases[routing.champion]
    return {
        "request_id": request_id,
        "release_id": live.release_id,
        "generation": routing.document.generation,
        "weights": routing.document.weights,
        "loaded": sorted(routing.releases),
        "fit_until": live.manifest.provenance.fit_until.isoformat(),
    }


def _row(live: LiveRelease, product_id: str) -> int:
    row = live.catalogue.index.get(product_id)
    if row is None:
        raise _unknown(product_id)
    return row


def _unknown(product_id: str) -> UnknownProduct:
    return UnknownProduct(
        f"no product has the id {_shown(product_id)}",
        "take a product_id from an answer of /v1/search or /v1/recommend",
    )


def _shown(value: str) -> str:
    """A client's text, safe to repeat: short, without surrogates."""
    return repr(value[:60].encode(errors="replace").decode())


def _result(
    live: LiveRelease, row: int, score: float, reasons: Sequence[str] = (), scores: dict[str, float] | None = None
) -> Answer:
    """One product in `row` of the release's catalogue, shown as search shows it: as it is since its last change."""
    catalogue, engine = live.catalogue, live.search
    product_id = catalogue.product_ids[row]
    name, price = catalogue.text["name"][row], catalogue.stats["price_minor"][row]
    if (at := engine.row.get(product_id)) is not None:
        name, price = engine.shelf.name[at], engine.shelf.price_minor[at]
    result = {
        "product_id": product_id,
        "name": name,
        "price": major(int(price), live.shop.minor_digits),
        "score": score,
        "reasons": list(reasons),
    }
    return result if scores is None else {**result, "scores": scores}


def _page(live: LiveRelease, found: SearchResult, *, explain: bool) -> list[Answer]:
    results = []
    for at, row in enumerate(found.rows.tolist()):
        stages = {name: float(values[at]) for name, values in found.stages.items() if np.isfinite(values[at])}
        result = {
            "product_id": str(found.shelf.product_ids[row]),
            "name": found.shelf.name[row],
            "price": major(int(found.shelf.price_minor[row]), live.shop.minor_digits),
            "score": float(found.scores[at]),
            "reasons": [],
            **({"scores": stages} if explain else {}),
        }
        results.append({**result, "rules": list(found.rules.get(row, ()))} if explain else result)
    return results


def _answer(live: LiveRelease, request_id: str, degraded: Sequence[str], results: list[Answer]) -> Answer:
    parts = sorted({_PARTS.get(part, part) for part in degraded})
    for part in parts:
        metrics.DEGRADED.labels(part).inc()
    return {"request_id": request_id, "release_id": live.release_id, "degraded": parts, "results": results}


def _count_faults(stages: Stages, release_id: str) -> None:
    for fault in stages.hard_faults:
        metrics.HARD_FAULTS.labels(fault).inc()
        log.error("release.hard_fault", fault=fault, release_id=release_id)


def _log_stages(gateway: Gateway, asked: Who, stages: Stages, request_id: str) -> None:
    gateway.impressions.write(
        Impression(
            request_id=request_id,
            surface="recommend",
            release_id=asked.live.release_id,
            arm=asked.arm,
            customer_key=asked.customer_key,
            session_id=asked.session_id,
            known_at=microseconds(gateway.now()),
            product_ids=[each.product_id for each in stages.results],
            scores=[each.score for each in stages.results],
            features=None if stages.features is None else stages.features[stages.order],
            feature_names=FEATURE_NAMES,
        )
    )


def _log_found(  # noqa: PLR0913
    gateway: Gateway, asked: Who, surface: Surface, found: SearchResult, request_id: str, *, first: int = 1
) -> None:
    ids = [str(found.shelf.product_ids[row]) for row in found.rows.tolist()]
    _log_rows(gateway, asked, surface, ids, found.scores, request_id=request_id, first=first)


def _log_rows(  # noqa: PLR0913
    gateway: Gateway, asked: Who, surface: Surface, ids: list[str], scores: Any, *, request_id: str, first: int = 1
) -> None:
    gateway.impressions.write(
        Impression(
            request_id=request_id,
            surface=surface,
            release_id=asked.live.release_id,
            arm=asked.arm,
            customer_key=asked.customer_key,
            session_id=asked.session_id,
            known_at=microseconds(gateway.now()),
            product_ids=ids,
            scores=scores.tolist(),
            first_position=first,
        )
    )
