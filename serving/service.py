"""The one public Bento service: the HTTP app mounted, and `recommend` and `search` as native Bento APIs."""

from collections.abc import Callable
from typing import Any

import bentoml
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mercato import log
from mercato.settings import Settings
from serving import answers
from serving.app import create_app, refused
from serving.door import Door
from serving.errors import ApiError, NoRelease, RuleBroken
from serving.gateway import Gateway as Held
from serving.ingest import describe
from serving.schemas import Ranked, RecommendRequest, SearchAnswer, SearchRequest

# This module is where a worker process starts: the environment is read here, once.
settings = Settings()
_held: list[Held] = []


def held() -> Held:
    """This process's gateway."""
    if not _held:
        raise NoRelease("this process is still starting", "wait for /readyz")
    return _held[0]


app = create_app(held)


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    """The app for every path, also those it does not know: Bento would answer them in its own words."""
    await app(scope, receive, send)


@bentoml.service(
    name="gateway",
    workers=settings.workers,
    traffic={"timeout": 60},
    # Bento labels its metrics with raw paths, an open set; ours are served by the app.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(everything)
class Gateway:
    """Search and recommendations of the release that is live."""

    def __init__(self) -> None:
        log.configure()
        _held.append(Held.open(settings))

    @bentoml.on_shutdown
    def close(self) -> None:
        """Write what waits."""
        while _held:
            _held.pop().close()

    def __is_ready__(self) -> bool:
        return bool(_held) and held().router.ready

    @bentoml.api(route="/recommend", input_spec=RecommendRequest, output_spec=Ranked)
    async def recommend(self, ctx: bentoml.Context, **body: Any) -> Any:
        """`POST /v1/recommend` for Bento clients."""
        return await _native(ctx, answers.recommend, RecommendRequest, body)

    @bentoml.api(route="/search", input_spec=SearchRequest, output_spec=SearchAnswer)
    async def search(self, ctx: bentoml.Context, **body: Any) -> Any:
        """`POST /v1/search` for Bento clients."""
        return await _native(ctx, answers.search, SearchRequest, body)


Gateway.add_asgi_middleware(Door)


async def _native(
    ctx: bentoml.Context, answer: Callable[..., answers.Answer], model: type[Any], body: dict[str, Any]
) -> answers.Answer | Response:
    """The same function as behind the HTTP route; our errors in our words."""
    try:
        request = model.model_validate(body)
        found: answers.Answer = await app.state.work.run(answer, held(), request, ctx.request.state.request_id)
    except ValidationError as error:
        rules = "; ".join(describe(each) for each in error.errors(include_url=False)[:3])
        return refused(ctx.request, RuleBroken(rules, "change what is named"))
    except ApiError as error:
        return refused(ctx.request, error)
    return found
