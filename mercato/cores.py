"""Work on many things at once, on every core: for NumPy, Arrow and ONNX, which work without Python's lock."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def on_every_core(work: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """What `work` makes of each thing, in their order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, things)
