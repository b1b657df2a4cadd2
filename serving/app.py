"""The HTTP interface, version 1: routes, verbs, errors, OpenAPI. Endpoints validate, call, answer."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from mercato.errors import StoreUnavailable
from serving import answers, metrics
from serving.door import OWN, error_body
from serving.errors import ApiError, EventLogDown, NoRelease, RuleBroken, Unparsable
from serving.gateway import Gateway
from serving.ingest import describe
from serving.page import router as page_router
from serving.schemas import (
    ErrorAnswer,
    EventBatch,
    EventsAnswer,
    N,
    Product,
    ProductBody,
    ProductChanged,
    Ranked,
    RecommendRequest,
    ReleaseAnswer,
    SearchAnswer,
    SearchRequest,
    SuggestAnswer,
)

log = structlog.get_logger()
EVENT_SECONDS = 10.0
"""Time that the event log gets before a client is told to send the batch again."""

_WHAT = {
    400: "the body is not JSON",
    404: "no such product or category",
    413: "the body is too large",
    422: "a bound or rule is broken",
    503: "not now: see Retry-After",
}
ProductId = Annotated[str, Path(min_length=1, max_length=128)]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for the OpenAPI document."""
    return {status: {"model": ErrorAnswer, "description": _WHAT[status]} for status in statuses}


def create_app(gateway: Callable[[], Gateway], *, page: bool) -> FastAPI:
    """The app over whatever `gateway` answers at the time of a request; with the page for people, if asked."""
    app = FastAPI(
        title="Mercato",
        version="1",
        description="Product search and recommendations. Every error is `{error: {code, message, hint, request_id}}`.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    _ranked_routes(app, gateway)
    _other_routes(app, gateway)
    _health_routes(app, gateway)
    _error_handlers(app)
    if page:
        app.include_router(page_router)
    return app


def _ranked_routes(app: FastAPI, gateway: Callable[[], Gateway]) -> None:
    @app.post("/v1/recommend", response_model=Ranked, responses=errors(400, 413, 422, 503))
    async def recommend(body: RecommendRequest, request: Request) -> Response:
        """Products for a customer, a basket or a page; an unknown customer gets what is popular."""
        return _ranked(request, await answers.recommend(gateway(), body, request.state.request_id))

    @app.post("/v1/search", response_model=SearchAnswer, responses=errors(400, 413, 422, 503))
    async def search(body: SearchRequest, request: Request) -> Response:
        """Products that match a query by word and by meaning, then filtered; an empty query lists a category."""
        return _ranked(request, await answers.search(gateway(), body, request.state.request_id))

    @app.get("/v1/products/{product_id}/similar", response_model=Ranked, responses=errors(404, 422, 503))
    async def similar(product_id: ProductId, request: Request, n: N = 10) -> Response:
        """The products most like one product."""
        return _ranked(request, answers.similar(gateway(), product_id, n, request.state.request_id))

    @app.get("/v1/trending", response_model=Ranked, responses=errors(404, 422, 503))
    async def trending(
        request: Request, category: Annotated[str | None, Query(min_length=1, max_length=128)] = None, n: N = 10
    ) -> Response:
        """What sells now, in one category or spread over all."""
        return _ranked(request, answers.trending(gateway(), category, n, request.state.request_id))


def _other_routes(app: FastAPI, gateway: Callable[[], Gateway]) -> None:
    @app.get("/v1/products/{product_id}", response_model=Product, responses=errors(404, 422, 503))
    async def product(product_id: ProductId, request: Request) -> Response:
        """One product."""
        return JSONResponse(answers.product(gateway(), product_id, request.state.request_id))

    @app.get("/v1/suggest", response_model=SuggestAnswer, responses=errors(422, 503))
    async def suggest(request: Request, q: Annotated[str, Query(min_length=1, max_length=256)], n: N = 10) -> Response:
        """What a shopper may be about to type: every word of `q`, the last one as a prefix, typos forgiven."""
        return JSONResponse(answers.suggest(gateway(), q, n, request.state.request_id))

    @app.put("/v1/products/{product_id}", response_model=ProductChanged, responses=errors(400, 413, 422, 503))
    async def put_product(product_id: ProductId, body: ProductBody, request: Request) -> Response:
        """A new product, or a product as it is from now on: found by the next search."""
        return JSONResponse(
            await asyncio.to_thread(answers.put_product, gateway(), product_id, body, request.state.request_id)
        )

    @app.delete("/v1/products/{product_id}", response_model=ProductChanged, responses=errors(422, 503))
    async def delete_product(product_id: ProductId, request: Request) -> Response:
        """A product that is gone: no answer shows it any more. Removing one twice is no error."""
        return JSONResponse(
            await asyncio.to_thread(answers.put_product, gateway(), product_id, None, request.state.request_id)
        )

    @app.get("/v1/release", response_model=ReleaseAnswer, responses=errors(503))
    async def release(request: Request) -> Response:
        """What is live here."""
        return JSONResponse(answers.release(gateway(), request.state.request_id))

    @app.post("/v1/events", response_model=EventsAnswer, responses=errors(400, 413, 422, 503))
    async def events(body: EventBatch, request: Request) -> Response:
        """Take events; what is counted as accepted is on the disk. Send a batch again after any failure."""
        try:
            pending, rejected = await asyncio.to_thread(gateway().ingest.take, body.events)
            done = None
            if pending is not None:
                done = await asyncio.wait_for(asyncio.wrap_future(pending), EVENT_SECONDS)
        except (StoreUnavailable, sqlite3.Error, TimeoutError) as error:
            log.warning("events.refused", reason=str(error) or f"no answer of the disk within {EVENT_SECONDS:g} s")
            raise EventLogDown(
                "events cannot be made durable right now; none of this request was acknowledged",
                "send the same events again with the same event_ids: duplicates count once",
            ) from error
        accepted, duplicate = (done.accepted, done.duplicate) if done else (0, 0)
        for outcome, count in (("accepted", accepted), ("duplicate", duplicate), ("rejected", len(rejected))):
            metrics.EVENTS.labels(outcome).inc(count)
        request.state.served = {"accepted": accepted, "duplicate": duplicate, "rejected": len(rejected)}
        return JSONResponse(
            {
                "request_id": request.state.request_id,
                "accepted": accepted,
                "duplicate": duplicate,
                "rejected": [each.model_dump() for each in rejected],
            }
        )


def _health_routes(app: FastAPI, gateway: Callable[[], Gateway]) -> None:
    @app.get("/livez", include_in_schema=False)
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        if not gateway().router.ready:
            raise NoRelease("no release is loaded and warmed yet", "`mercato release live` says what is live")
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics", include_in_schema=False)
    def prometheus() -> Response:
        metrics.POPULARITY_AGE.set(gateway().trends.age_seconds())
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _ranked(request: Request, answer: answers.Answer) -> Response:
    request.state.served = {
        "release_id": answer["release_id"],
        "results": len(answer["results"]),
        "degraded": answer["degraded"],
    }
    return JSONResponse(answer)


def refused(request: Request, error: ApiError) -> Response:
    """The error as an answer, marked as ours."""
    setattr(request.state, OWN, True)
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    request.state.served = {"code": error.code}
    return JSONResponse(error_body(error, request.state.request_id), error.status, headers)


def _error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def _api(request: Request, error: ApiError) -> Response:
        return refused(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(each["type"] == "json_invalid" for each in found):
            return refused(request, _unparsable())
        return refused(request, broken_rules(found))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # noqa: PLR2004
            return refused(request, _unparsable())
        # Others (no such route, wrong verb) are replaced at the door.
        return Response(status_code=error.status_code, headers=error.headers)


def broken_rules(found: Sequence[Any]) -> RuleBroken:
    """The first broken rules of a request, in words."""
    rules = "; ".join(describe(each) for each in found[:3])
    return RuleBroken(rules, "change what is named; /v1/openapi.json lists every bound")


def _unparsable() -> Unparsable:
    return Unparsable("the body is not JSON in UTF-8", "send one JSON object with content-type application/json")
