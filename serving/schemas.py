"""Requests and answers of version 1: the limits here are the ones in `/v1/openapi.json`."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from data_contracts.events import Event, Id, Price
from feature_repo.text import query_text
from serving.runtime.query.understand import StepName
from serving.runtime.understanding import QueryClass

MAX_EVENTS = 1_000
"""Events in one request."""
MAX_QUERY = 500
"""Characters of a query."""


def _query(value: str) -> str:
    found = len(" ".join(value.split()))
    if found > MAX_QUERY or (found and not query_text(value)):
        raise ValueError(f"the query has {found} characters, need at most {MAX_QUERY}, at least one of them in a word")
    return value


N = Annotated[int, Field(ge=1, le=100, description="Length of the list.")]
Query = Annotated[
    str,
    Field(
        max_length=2_000, description="What the shopper wrote; empty: the products of filters.category, by popularity."
    ),
    AfterValidator(_query),
]
Ids = Annotated[list[Id], Field(max_length=500)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchFilters(_Request):
    """Bounds on results; what is left out is open."""

    category: Id | None = None
    brand: Id | None = None
    price_min: Price | None = None
    price_max: Price | None = None
    in_stock: bool | None = None
    """A product whose stock is unknown is never filtered by stock."""

    @model_validator(mode="after")
    def _prices_in_order(self) -> Self:
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise ValueError(f"price_min {self.price_min} is above price_max {self.price_max}")
        return self


class SearchRequest(_Request):
    """What `POST /v1/search` takes."""

    query: Query
    n: N = 10
    offset: int = Field(default=0, ge=0, le=10_000)
    customer_id: Id | None = None
    session_id: Id | None = None
    filters: SearchFilters = SearchFilters()
    exclude: Ids = []
    segment: Id | None = None
    """The shopper's segment, for merchandising rules."""
    refuse: list[StepName] = []
    """Steps of query understanding to leave out."""
    explain: bool = False

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.query.split() and self.filters.category is None:
            raise ValueError("the query is empty; need words in it, or filters.category for a category page")
        return self


class RecommendRequest(_Request):
    """What `POST /v1/recommend` takes; an unknown or absent customer gets the cold start."""

    n: N = 10
    customer_id: Id | None = None
    session_id: Id | None = None
    product_ids: Ids = []
    """The basket, or the product on the page."""
    goal: Literal["all", "novel"] = "all"
    exclude: Ids = []
    explain: bool = False


class EventBatch(_Request):
    """What `POST /v1/events` takes. Each event is judged by itself, so the items are checked later."""

    events: Annotated[
        list[Any],
        Field(min_length=1, max_length=MAX_EVENTS),
        WithJsonSchema({"type": "array", "items": Event.model_json_schema(), "minItems": 1, "maxItems": MAX_EVENTS}),
    ]


class Result(BaseModel):
    """One product of a ranked answer."""

    product_id: str
    name: str
    price: float | None
    """In major units of the shop's currency; null where it is unknown."""
    score: float
    reasons: list[str] = []
    scores: dict[str, float] | None = None
    """Score of each stage, when `explain` is true."""
    rules: list[str] | None = None
    """Merchandising rules that moved it ("pin spring-sale"), when `explain` is true."""


class Ranked(BaseModel):
    """A ranked answer."""

    request_id: str
    release_id: str
    degraded: list[str]
    """Parts that did not work for this answer: online_features, encoder, index, retrieval, ranker."""
    results: list[Result]


class UnderstoodStep(BaseModel):
    """What one step of query understanding did."""

    step: str
    before: str
    after: str
    detail: dict[str, Any]


class Understood(BaseModel):
    """How the query was read; whatever is here can be refused with `refuse`."""

    text: str
    """What was searched, after corrections."""
    query_class: QueryClass
    phrases: list[str]
    """What stood in quotes: only products whose name holds it, in any inflection, are shown."""
    price_min: float | None
    price_max: float | None
    """Bounds that the query states, in major units; `filters` goes before them."""
    boosts: dict[str, str]
    """What the query names: the products of `brand` lead; `color` and `size` are shown here and move nothing."""
    trace: list[UnderstoodStep] | None = None
    """Each step that did something, when `explain` is true."""


class AppliedRule(BaseModel):
    """A merchandising rule that applied to this request."""

    id: str
    action: Literal["pin", "boost", "bury", "block"]
    owner: str
    start: str
    end: str
    """In force in [start, end), ISO 8601."""
    products: int
    """Found products that it moved, or removed, on all pages; a lower bound where `total` is one."""


class SearchAnswer(Ranked):
    """A page of search results."""

    total: int
    """Products that match, on all pages; a lower bound for words that more than 500 texts hold."""
    facets: dict[str, dict[str, int]]
    """`category`, `brand` and `price` ("10-19.99", the last one open) -> value -> matching products; each ignores the
    filter on itself."""
    understood: Understood
    relaxed: list[str]
    """What was given up as the query found nothing: phrases, price_bounds, unsure_spelling:WORDS, rarest_word:WORD."""
    rules: list[AppliedRule] | None = None
    """Merchandising rules that applied, in the order of their file, when `explain` is true."""


class Suggestion(BaseModel):
    """Something to search for."""

    text: str
    kind: Literal["query", "category", "brand", "product"]


class SuggestAnswer(BaseModel):
    """What a shopper may be about to type."""

    request_id: str
    release_id: str
    suggestions: list[Suggestion]


class Product(BaseModel):
    """One product."""

    request_id: str
    release_id: str
    product_id: str
    name: str
    brand: str
    category: str
    department: str
    product_type: str
    package_size: str
    price: float | None
    currency: str
    on_promotion: bool


Text = Annotated[str, Field(max_length=10_000)]
Label = Annotated[str, Field(max_length=256)]


class ProductBody(_Request):
    """A product as it is from now on; what is left out is unknown."""

    name: Label = Field(min_length=1)
    brand: Label | None = None
    category: Label | None = None
    department: Label | None = None
    product_type: Label | None = None
    package_size: Label | None = None
    description: Text | None = None
    attributes: dict[Label, Label] = Field(default={}, max_length=200)
    price: Price | None = None
    in_stock: bool | None = None


class ProductChanged(BaseModel):
    """The change is on the disk, and searchable here."""

    request_id: str
    product_id: str
    changed_at: str
    """ISO 8601, UTC; the next index built after it holds the change itself."""


class Rejected(BaseModel):
    """An event that was not taken."""

    index: int
    """Position in the request, from 0."""
    event_id: str | None
    reason: str


class EventsAnswer(BaseModel):
    """What became of a batch; `accepted` events are on the disk."""

    request_id: str
    accepted: int
    duplicate: int
    rejected: list[Rejected]


class ReleaseAnswer(BaseModel):
    """What is live here."""

    request_id: str
    release_id: str
    generation: int
    weights: dict[str, int]
    """Release id -> share out of 10,000."""
    loaded: list[str]
    fit_until: str
    """No artefact of the release saw an event at or after this time."""


class ErrorDetail(BaseModel):
    """What was found, what was needed, what to do."""

    code: str
    message: str
    hint: str
    request_id: str


class ErrorAnswer(BaseModel):
    """Every answer other than 200."""

    error: ErrorDetail


def minor(price: Decimal | None, digits: int) -> int | None:
    """Integer minor units of a currency with that many decimal digits, half a minor unit going up."""
    return None if price is None else int(price * 10**digits + Decimal("0.5"))


def major(price_minor: int, digits: int) -> float | None:
    """Major units of a currency with that many decimal digits; None for 0, which stands for an unknown price."""
    return price_minor / 10**digits if price_minor > 0 else None
