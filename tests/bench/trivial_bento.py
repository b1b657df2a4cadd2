"""The rival: a Bento endpoint that does nothing, so that the framework's share of an answer is visible."""

import bentoml


@bentoml.service(metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Trivial:
    """Answers with its input."""

    @bentoml.api
    def hello(self, n: int = 10) -> dict[str, int]:
        """The number it was given."""
        return {"n": n}
