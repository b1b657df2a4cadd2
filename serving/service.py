"""The one public Bento service: the HTTP app mounted, and `recommend` and `search` as native Bento APIs.

BentoML imports this module in its parent process too, which answers nothing: what is heavy is imported by a worker.
"""

import sys
from typing import Any

import bentoml
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mercato import log
from mercato.settings import Settings
from serving.door import Door
from serving.schemas import Ranked, RecommendRequest, SearchAnswer, SearchRequest

# This module is where a worker process starts: the environment is read here, once.
settings = Settings()
_apps: list[ASGIApp] = []


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    """The app for every path, also those it does not know: Bento would answer them in its own words."""
    await _apps[-1](scope, receive, send)


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
        from serving.app import create_app
        from serving.gateway import Gateway as Held

        log.configure()
        # The online read's thread asks for the interpreter several times; at 5 ms each its deadline would pass.
        sys.setswitchinterval(0.0005)
        self.held = Held.open(settings)
        self.app = create_app(lambda: self.held, page=settings.page)
        _apps.append(self.app)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Write what waits."""
        self.held.close()

    def __is_ready__(self) -> bool:
        return self.held.router.ready

    @bentoml.api(route="/recommend", input_spec=RecommendRequest, output_spec=Ranked)  # type: ignore[untyped-decorator]
    async def recommend(self, ctx: bentoml.Context, **body: Any) -> Any:
        """`POST /v1/recommend` for Bento clients."""
        return await self._native(ctx, RecommendRequest, Ranked, body)

    @bentoml.api(route="/search", input_spec=SearchRequest, output_spec=SearchAnswer)  # type: ignore[untyped-decorator]
    async def search(self, ctx: bentoml.Context, **body: Any) -> Any:
        """`POST /v1/search` for Bento clients."""
        return await self._native(ctx, SearchRequest, SearchAnswer, body)

    async def _native(
        self,
        ctx: bentoml.Context,
        model: type[RecommendRequest] | type[SearchRequest],
        answer: type[BaseModel],
        body: dict[str, Any],
    ) -> BaseModel | Response:
        """The same function as behind the HTTP route; our errors in our words."""
        from serving import answers
        from serving.app import broken_rules, refused
        from serving.errors import ApiError

        request_id = ctx.request.state.request_id
        try:
            request = model.model_validate(body)
            if isinstance(request, RecommendRequest):
                found = await answers.recommend(self.held, request, request_id)
            else:
                found = await answers.search(self.held, request, request_id)
        except ValidationError as error:
            return refused(ctx.request, broken_rules(error.errors(include_url=False)))
        except ApiError as error:
            return refused(ctx.request, error)
        return answer.model_validate(found)


Gateway.add_asgi_middleware(Door)  # type: ignore[attr-defined]
