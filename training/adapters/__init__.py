"""Where source rows come from: one adapter per kind, all behind the same interface."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from data_contracts.sources import Source
from training.adapters import parquet


class Adapter(Protocol):
    """A source that can be read."""

    def schema(self) -> pa.Schema:
        """Columns and types as the source has them; SourceMissing or CorruptFile when it cannot be opened."""
        ...

    def digest(self) -> str:
        """Hex SHA-256 of the source as it is now."""
        ...

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """An Ibis table of `con` with at least the rows known in [since, until); more is fine, the caller filters."""
        ...


_KINDS: dict[str, Callable[[Any], Adapter]] = {
    "package_parquet": parquet.in_package,
    "files": parquet.on_disk,
}


def open_source(source: Source) -> Adapter:
    """The adapter of a source's kind."""
    return _KINDS[source.kind](source)
