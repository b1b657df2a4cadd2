"""A table or query of a database as a source: the window is pushed down, rows stream in chunks into Parquet."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy import exc

from data_contracts.errors import SchemaMismatch, SourceMissing
from data_contracts.sources import Sql
from data_contracts.tables import Table
from mercato.paths import canonical_json
from training.adapters.environment import secret
from training.adapters.watermark import watermark
from training.errors import SourceDown

CHUNK_ROWS = 20_000
"""Rows that travel, and lie in memory, at once."""
_SAMPLE = 1_000
_TIMESTAMPTZ = 1184
"""PostgreSQL's number of the type timestamptz."""
_REFUSED = (
    "authentication failed",
    "no such table",
    "no such column",
    "does not exist",
    "syntax error",
    "Access denied",
)
"""What a driver calls an operational error although another try will not help."""
_ARROW = {"integer": pa.int64(), "number": pa.float64(), "string": pa.string(), "boolean": pa.bool_()}


@dataclass(frozen=True, slots=True)
class SqlRows:
    """The rows of a table or query."""

    source: Sql
    spec: Table
    folder: Path
    text: ClassVar[bool] = False

    def schema(self) -> pa.Schema:
        """Columns as the database has them, typed by their first rows; one without a value there has its stated type.

        Raises:
            SourceMissing: no URL, table or driver, or the database refuses us.
            SourceDown: the database does not answer.
        """
        with self._connected() as connection:
            names, aware = self._described(connection)
            rows = connection.execute(self._select(None).limit(_SAMPLE)).fetchall()
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        fields = [
            pa.field(name, _type_of(values, self.spec.columns.get(name, "string"), aware=name in aware))
            for name, values in zip(names, columns, strict=True)
        ]
        return pa.schema(fields)

    def digest(self) -> str:
        """Hex SHA-256 of what is asked for: a database changes under the same question."""
        return hashlib.sha256(canonical_json([self.source.model_dump(), list(self.spec.columns)])).hexdigest()

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """The rows whose watermark lies in the window or is empty, one chunk in memory at a time.

        Raises:
            SchemaMismatch: a value is not of its column's stated type.
        """
        path = self.folder / f"sql-{hashlib.sha256(f'{self.digest()}{since}{until}'.encode()).hexdigest()[:12]}.parquet"
        with self._connected() as connection:
            aware = self._described(connection)[1]
            schema = pa.schema(
                [(name, _declared(kind, aware=name in aware)) for name, kind in self.spec.columns.items()]
            )
            query = self._within(self._select(list(schema.names)), since, until, aware)
            with (
                connection.execution_options(stream_results=True, yield_per=CHUNK_ROWS).execute(query) as rows,
                pq.ParquetWriter(path, schema, compression="snappy") as out,
            ):
                for chunk in rows.partitions(CHUNK_ROWS):
                    out.write_table(_table(chunk, schema))
        return con.read_parquet(str(path), hive_partitioning=False)

    def sample(self, con: Any, rows: int) -> pa.Table:
        """The first rows that the database gives."""
        del con
        with self._connected() as connection:
            aware = self._described(connection)[1]
            schema = pa.schema(
                [(name, _declared(kind, aware=name in aware)) for name, kind in self.spec.columns.items()]
            )
            return _table(connection.execute(self._select(list(schema.names)).limit(rows)).fetchall(), schema)

    def _select(self, names: Sequence[str] | None) -> Any:
        """SELECT of the named columns, or of all, from the table or query."""
        if self.source.table:
            schema, _, table = self.source.table.rpartition(".")
            whole: Any = sa.table(table, schema=schema or None)
        else:
            query = sa.text(self.source.query.rstrip().rstrip(";"))
            whole = query.columns(*map(sa.column, self.spec.columns)).subquery("source")
        columns: list[Any] = [sa.column(name) for name in names] if names else [sa.text("*")]
        return sa.select(*columns).select_from(whole)

    def _within(self, query: Any, since: datetime, until: datetime, aware: set[str]) -> Any:
        mark = watermark(self.spec)
        if mark is None:
            return query
        column: Any = sa.column(mark.column)
        first, last = mark.bounds(since, until, aware=mark.column in aware)
        return query.where(sa.or_(sa.and_(column >= first, column < last), column.is_(None)))

    def _described(self, connection: sa.Connection) -> tuple[list[str], set[str]]:
        """(columns, those that hold instants with a zone)."""
        result = connection.execute(self._select(None).limit(0))
        cursor = result.cursor
        types = [each[1] for each in cursor.description] if cursor is not None else []
        names = list(result.keys())
        result.close()
        if connection.dialect.name != "postgresql":
            return names, set()
        return names, {name for name, kind in zip(names, types, strict=True) if kind == _TIMESTAMPTZ}

    def _engine(self) -> sa.Engine:
        try:
            engine = sa.create_engine(secret(self.source.url_env, "the URL of a database"), poolclass=sa.NullPool)
        except (exc.ArgumentError, ValueError, ModuleNotFoundError) as error:
            raise self._unusable(type(error).__name__) from None
        if "@" in (engine.url.host or ""):
            raise self._unusable("an @ too many")
        return engine

    def _unusable(self, why: str) -> SourceMissing:
        return SourceMissing(
            f"{self.source.url_env} holds no usable SQLAlchemy URL ({why}); need e.g. "
            "postgresql+psycopg://user@host/database, its driver installed, and @ : / in a password percent-encoded"
        )

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        engine = self._engine()
        what = f"{self.source.table or 'a query'} behind {self.source.url_env}"
        try:
            with engine.connect() as connection:
                yield connection
        except (exc.OperationalError, exc.InterfaceError) as error:
            if any(words in str(error.orig) for words in _REFUSED):
                raise SourceMissing(f"the database refuses {what}: {_said(error)}; correct the source") from error
            raise SourceDown(f"the database of {what} does not answer: {_said(error)}; it is asked again") from error
        except exc.SQLAlchemyError as error:
            raise SourceMissing(f"the database refuses {what}: {_said(error)}; correct the source") from error
        finally:
            engine.dispose()


def _said(error: Exception) -> str:
    """The driver's own first line: neither our URL nor our statement stands in it."""
    return str(getattr(error, "orig", None) or error).strip().split("\n")[0]


def _declared(kind: str, *, aware: bool) -> pa.DataType:
    return _ARROW[kind] if kind != "timestamp" else pa.timestamp("us", "UTC" if aware else None)


def _type_of(values: Sequence[Any], stated: str, *, aware: bool) -> pa.DataType:
    """The type of some values as Python has them; `stated` when there is none, or when they are whole decimals."""
    there = [each for each in values if each is not None]
    if not there:
        return _declared(stated, aware=aware)
    kind = type(there[0])
    if issubclass(kind, Decimal):
        return pa.int64() if stated == "integer" and all(each == int(each) for each in there) else pa.float64()
    if issubclass(kind, date):
        return pa.timestamp("us", "UTC" if aware else None)
    if issubclass(kind, bytes | memoryview):
        return pa.binary()
    known = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return known.get(kind, pa.string())


def _table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([_array(values, field) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    try:
        return pa.array([None if each is None else _plain(each, field.type) for each in values], field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SchemaMismatch(
            f"the column {field.name!r} has a value that is no {field.type} ({type(error).__name__}); "
            "correct its type in `columns` of the shop's YAML, or the source"
        ) from error


def _plain(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_integer(kind) and isinstance(value, Decimal):
        if value != int(value):
            raise ValueError(value)
        return int(value)
    if pa.types.is_timestamp(kind):
        if not isinstance(value, datetime):
            return datetime.combine(value, time())
        if value.tzinfo and not kind.tz:
            raise ValueError(value)
    if pa.types.is_string(kind) and not isinstance(value, str):
        if isinstance(value, bytes | memoryview):
            raise TypeError(value)
        return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else str(value)
    return value
