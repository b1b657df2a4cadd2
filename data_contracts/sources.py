"""The kinds of sources that a shop's YAML can name; `training.adapters` reads them. Every key: docs/sources.md."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Part(BaseModel):
    """A piece of a shop's YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageParquet(Part):
    """A Parquet file that an installed Python package brings along."""

    kind: Literal["package_parquet"]
    package: str
    """Import name of the package."""
    path: str
    """File below the package's folder."""


class Csv(Part):
    """How a text file with separated values is written."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', max_length=1)
    """Empty: values are never quoted."""
    escape: str = Field(default='"', max_length=1)
    """What makes a quote inside a quoted value plain."""
    header: bool = True
    """Without one the columns are the table's `columns`, in their order."""
    skip: int = Field(default=0, ge=0)
    """Lines before the header (or the first row) that are no data."""
    encoding: str = "utf-8"
    """Any name that Python knows: cp1252, utf-16, shift_jis, ..."""
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""
    nulls: tuple[str, ...] = ("",)
    """Spellings of "no value"."""

    @field_validator("encoding")
    @classmethod
    def _is_one(cls, name: str) -> str:
        try:
            return codecs.lookup(name).name
        except LookupError:
            raise ValueError(f"found the encoding {name!r}; need one that Python knows, e.g. utf-8, cp1252") from None

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError(f"found {self.decimal!r} for both `decimal` and `thousands`; they must differ")
        return self


class Files(Part):
    """Local files: separated values, JSON lines or Parquet; plain, .gz or .zip."""

    kind: Literal["files"]
    path: str
    """A path or glob with `~` and `$VARIABLES`; relative to the working directory."""
    format: Literal["", "csv", "jsonl", "parquet"] = ""
    """Empty: by the extension."""
    member: str = "*"
    """Which members of a .zip are read (a glob over their names)."""
    csv: Csv = Csv()
    drop: bool = False
    """New and changed files start `receive_files`."""


class Sql(Part):
    """A table or query of any database that SQLAlchemy reaches."""

    kind: Literal["sql"]
    url_env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the SQLAlchemy URL; the URL itself never stands in the YAML."""
    table: str = ""
    """`table` or `schema.table`."""
    query: str = ""
    """One SELECT; its rows are filtered by the watermark from outside."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.table) == bool(self.query):
            raise ValueError("need exactly one of `table`, `query`")
        return self


class Auth(Part):
    """A request header whose value comes from the environment."""

    env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    header: str = "Authorization"
    prefix: str = "Bearer "


class Pages(Part):
    """How an API says where the next page is: one of `cursor`, `number`, `link`."""

    cursor: str = ""
    """Dotted path in the answer to the cursor of the next page; empty or absent there: this was the last."""
    number: str = ""
    """Query parameter that counts pages; a page without records ends it."""
    link: bool = False
    """The header `Link: <...>; rel="next"`."""
    param: str = "cursor"
    """Query parameter that carries the cursor back."""
    first: int = 1
    """Number of the first page."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(map(bool, (self.cursor, self.number, self.link))) != 1:
            raise ValueError("need exactly one of `cursor`, `number`, `link`")
        return self


class Http(Part):
    """A JSON API, read page by page."""

    kind: Literal["http"]
    url: str
    """http(s) address; `$VARIABLES` are filled in."""
    records: str = ""
    """Dotted path in the answer to the list of records; empty: the answer is the list."""
    params: dict[str, str] = {}
    """Query parameters of every request."""
    since: str = ""
    """Query parameter for the first instant (ISO 8601, UTC); empty: the API cannot be asked by time."""
    until: str = ""
    """Query parameter for the instant after the last."""
    auth: Auth | None = None
    pages: Pages | None = None
    """Left out: everything is in one answer."""


class Logs(Part):
    """A log of JSON lines with its rotated predecessors (`app.log.1`, `app.log.2.gz`, `app.log-20170306`)."""

    kind: Literal["logs"]
    path: str
    """Path of the log that is written now, with `~` and `$VARIABLES`."""
    unreadable: str = ""
    """Text column that takes a line which is no JSON object, at the time of the line before it, so that the
    contract sends it to quarantine; empty: such a line stops the run."""


class EventLog(Part):
    """One of our own logs: the events that clients sent, or the ranked answers that were shown."""

    kind: Literal["event_log"]
    log: Literal["events", "impressions"]
    url: str = ""
    """URL of the store; empty: the one that the settings name."""


Source = Annotated[PackageParquet | Files | Sql | Http | Logs | EventLog, Field(discriminator="kind")]
