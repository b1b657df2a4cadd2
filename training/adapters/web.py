"""A JSON API as a source, read page by page into a run's folder; every value arrives as text."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import CorruptFile, SourceMissing
from data_contracts.sources import Http
from data_contracts.tables import Table
from mercato.paths import canonical_json
from training.adapters.asking import Asking
from training.adapters.environment import expanded, secret
from training.adapters.records import stage
from training.adapters.watermark import watermark

MAX_PAGES = 100_000
"""An API that never ends is broken."""


@dataclass(frozen=True, slots=True)
class HttpRecords:
    """The records of an API."""

    source: Http
    spec: Table
    folder: Path
    asking: Asking = field(default_factory=Asking)
    text: ClassVar[bool] = True

    def schema(self) -> pa.Schema:
        """The declared columns, as text; what else a record has is found when it is read."""
        return pa.schema([(name, pa.string()) for name in self.spec.columns])

    def digest(self) -> str:
        """Hex SHA-256 of what is asked for: an API's answer changes under the same question."""
        return hashlib.sha256(canonical_json([self.source.model_dump(), list(self.spec.columns)])).hexdigest()

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """All records of the window, where the API can be asked by time; else all.

        Raises:
            SourceMissing: the API refuses us, or knows no such address.
            SourceDown: it does not answer, however often it is asked.
            CorruptFile: a page is no JSON, has no records, or its cursor comes again.
            SchemaMismatch: a record has a value that is not declared.
        """
        records = (each for page in self._pages(self._first(since, until)) for each in page)
        name = hashlib.sha256(f"{self.digest()}{since}{until}".encode()).hexdigest()[:12]
        path = stage(records, self.spec.columns, self.folder / f"http-{name}.parquet", self._where())
        return con.read_parquet(str(path), hive_partitioning=False)

    def sample(self, con: Any, rows: int) -> pa.Table:
        """The first records of the first page."""
        del con
        first = next(self._pages(self._first()), [])[:rows]
        path = stage(first, self.spec.columns, self.folder / "http-sample.parquet", self._where())
        return pq.read_table(path)

    def _where(self) -> str:
        """The address for people: variables by their names, neither user nor query."""
        parts = urlsplit(self.source.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

    def _first(self, since: datetime | None = None, until: datetime | None = None) -> httpx.URL:
        """The address of the first page."""
        asked = dict(self.source.params)
        mark = watermark(self.spec)
        for name, instant in ((self.source.since, since), (self.source.until, until)):
            if name and instant and mark:
                asked[name] = (instant - mark.delay).astimezone(UTC).isoformat().replace("+00:00", "Z")
        return _address(self.source.url).copy_merge_params(asked)

    def _pages(self, url: httpx.URL) -> Iterator[list[dict[str, Any]]]:
        headers = {"accept": "application/json"}
        if auth := self.source.auth:
            headers[auth.header] = f"{auth.prefix}{secret(auth.env, 'the credential of an API')}"
        seen: set[httpx.URL] = set()
        following: httpx.URL | None = url
        with httpx.Client(headers=headers, timeout=self.asking.timeout) as client:
            while following is not None:
                if following in seen or len(seen) == MAX_PAGES:
                    raise CorruptFile(
                        f"{self._where()} sends us on to a page that it gave before, or to ever more, after "
                        f"{len(seen):,} pages: it would not end; check `source.pages`"
                    )
                seen.add(following)
                answer = self.asking.get(client, following, self._where())
                found = self._records(answer)
                yield found
                following = self._following(answer, following, empty=not found)

    def _records(self, answer: httpx.Response) -> list[dict[str, Any]]:
        found = _at(_json(answer, self._where()), self.source.records)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise CorruptFile(
                f"{self._where()} has no list of objects at {self.source.records or 'the top'!r} "
                f"(found {type(found).__name__}); correct `source.records`"
            )
        return found

    def _following(self, answer: httpx.Response, url: httpx.URL, *, empty: bool) -> httpx.URL | None:
        """The address of the next page, or None after the last."""
        pages = self.source.pages
        if pages is None:
            return None
        if pages.number:
            number = int(url.params.get(pages.number, pages.first))
            return None if empty else url.copy_set_param(pages.number, number + 1)
        if pages.cursor:
            cursor = _at(_json(answer, self._where()), pages.cursor)
            return url.copy_set_param(pages.param, str(cursor)) if cursor else None
        link = answer.links.get("next", {}).get("url", "")
        if not link:
            return None
        target = url.join(link)
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            raise SourceMissing(
                f"{self._where()} links to {target.host} for its next page; our credential goes nowhere else, "
                "correct `source.url`"
            )
        return target


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(expanded(text))
    except httpx.InvalidURL:
        raise SourceMissing(f"{text!r} is no address; correct `source.url`") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise SourceMissing(f"{text!r} is no http(s) address; correct `source.url`")
    return url


def _json(answer: httpx.Response, where: str) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise CorruptFile(
            f"{where} answered {answer.status_code} with a page that is not JSON ({answer.text[:60]!r}...); "
            "check `source.url`"
        ) from error


def _at(value: Any, path: str) -> Any:
    for key in filter(None, path.split(".")):
        value = value.get(key) if isinstance(value, dict) else None
    return value
