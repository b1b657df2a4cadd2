"""The rival: a bare FastAPI endpoint."""

from fastapi import FastAPI

app = FastAPI()


@app.post("/hello")
async def hello(body: dict[str, int]) -> dict[str, int]:
    """The number it was given."""
    return body
