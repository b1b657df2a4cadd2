"""A JSON API that misbehaves: read whole in the end, or refused with a clear reason; never half, never for ever."""

import json
import logging
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyarrow.parquet as pq
import pytest
from tenacity import RetryCallState, Retrying

from data_contracts.errors import CorruptFile, SchemaMismatch, SourceMissing
from data_contracts.lake import connect, verify
from mercato.errors import MercatoError
from tests.forks import PUT_IN_PLACE, killed
from tests.lake_maker import MONDAY, days, finished, make_lake, tree
from tests.training.sources import COLUMNS, raw, run, shop_of
from training.adapters.asking import Asking
from training.adapters.web import HttpRecords
from training.errors import SourceDown

Answer = tuple[int, dict[str, str], bytes]
SECRET = "hidden"
QUICK = Asking(attempts=3, pause=0.01, longest=2, timeout=0.2)


@dataclass
class Api:
    """What the server does next, one answer after the other, and what it was asked."""

    url: str
    answers: list[Answer | Callable[[], Answer]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    slow: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: Api


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        api = self.server.api
        parts = urlsplit(self.path)
        api.asked.append({"path": parts.path, **{k: v[0] for k, v in parse_qs(parts.query).items()}})
        api.asked[-1]["auth"] = self.headers.get("Authorization")
        answer = api.answers.pop(0)
        status, headers, body = answer() if callable(answer) else answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.api = Api(f"http://127.0.0.1:{server.server_port}/orders")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.api
    server.api.slow.set()
    server.shutdown()
    thread.join()
    server.server_close()


def row(number: int) -> dict[str, Any]:
    return {"basket": f"b{number}", "paid": "2017-03-06T17:00:00Z", "quantity": number, "amount": 1.5}


def page(*numbers: int, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    return 200, headers or {}, json.dumps({"data": {"items": [row(n) for n in numbers]}, **more}).encode()


def source(api: Api, **changes: Any) -> dict[str, Any]:
    return {"kind": "http", "url": api.url, "records": "data.items", **changes}


def read(api: Api, folder: Path, **changes: Any) -> list[str]:
    """Baskets that the API gave for Monday, asked by an impatient client."""
    shop = shop_of(source(api, **changes))
    spec = shop.table("transactions")
    adapter = HttpRecords(spec.source, spec, folder, QUICK)
    return adapter.relation(connect(), *days(MONDAY, 1, shop).values()).to_pyarrow()["basket"].to_pylist()


def test_pages_by_cursor_with_window_and_credential(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window (less the delay) and the header from the environment go with every page; values arrive as text."""
    monkeypatch.setenv("ORDERS_TOKEN", "s3cret")
    api.answers = [page(1, 2, next="c 2"), page(3, next=None)]
    asks = {"since": "from", "until": "to", "params": {"state": "paid"}, "pages": {"cursor": "next", "param": "after"}}
    run(tmp_path, shop_of(source(api, auth={"env": "ORDERS_TOKEN"}, **asks)))
    assert [(each["basket"], each["quantity"], each["amount"]) for each in raw(tmp_path)] == [
        ("b1", "1", "1.5"), ("b2", "2", "1.5"), ("b3", "3", "1.5")
    ]  # fmt: skip
    first = {"path": "/orders", "state": "paid", "from": "2017-03-06T04:45:00Z", "to": "2017-03-07T04:45:00Z"}
    assert api.asked == [{**first, "auth": "Bearer s3cret"}, {**first, "after": "c 2", "auth": "Bearer s3cret"}]


def test_pages_by_number_end_with_an_empty_one(api: Api, tmp_path: Path) -> None:
    """Pages are counted from the first until one has no records."""
    api.answers = [page(1), page(2), page()]
    assert read(api, tmp_path, pages={"number": "p"}) == ["b1", "b2"]
    assert [each.get("p") for each in api.asked] == [None, "2", "3"]


def test_a_killed_extraction_resumes(api: Api, tmp_path: Path) -> None:
    """Kill -9 after any page or partition written aside: nothing is in place; then after any file that came into
    place: no partition is half; the next run makes the same bytes as one that nobody killed.
    """
    shop = shop_of(source(api, pages={"number": "p"}))
    calls = (HttpRecords, "_records"), (Path, "write_bytes"), PUT_IN_PLACE
    before, files = 4 + 1, 2

    def ask(folder: str) -> None:
        run(tmp_path / folder, shop)

    def answers() -> list[Answer | Callable[[], Answer]]:
        return [page(1, 2), page(3, 4), page(5), page()]

    api.answers = answers()
    ask("clean")
    lake = make_lake(tmp_path / "killed")
    for after in (random.randint(1, before), random.randint(before + 1, before + files)):
        api.answers = answers()
        assert killed(lambda: ask("killed"), after, *calls) == -9, after
        assert bool(finished(lake)) is (after > before), after
        verify(lake, "transactions", layer="raw")
    api.answers = answers()
    ask("killed")
    assert finished(lake) == tree(make_lake(tmp_path / "clean"))


def test_pages_by_link_stay_on_their_server(api: Api, tmp_path: Path) -> None:
    """`rel=next` is followed as it stands; to another server our credential does not go."""
    api.answers = [page(1, headers={"Link": '</orders?at=x%2Fy>; rel="next", </>; rel="first"'}), page(2)]
    assert read(api, tmp_path, pages={"link": True}) == ["b1", "b2"]
    assert api.asked[1]["at"] == "x/y"
    api.answers = [page(1, headers={"Link": '<http://127.0.0.2:1/orders>; rel="next"'})]
    with pytest.raises(SourceMissing, match=r"127\.0\.0\.2.*our credential goes nowhere else"):
        read(api, tmp_path, pages={"link": True})


def test_what_passes_is_asked_again(api: Api, tmp_path: Path) -> None:
    """429 with Retry-After (seconds or date), a 503, a body cut short and a slow page each cost another attempt."""
    cut = (200, {"Content-Length": "10000"}, b'{"data"')
    date = {"Date": "Mon, 06 Mar 2017 12:00:00 GMT", "Retry-After": "Mon, 06 Mar 2017 12:00:00 GMT"}

    def slow() -> Answer:
        api.slow.wait(5)
        return page(9)

    turns = {"pages": {"number": "p"}}
    api.answers = [(429, {"Retry-After": "0"}, b""), page(1), (429, date, b""), (503, {}, b""), page(2), cut, page(3)]
    api.answers += [slow, page()]
    assert read(api, tmp_path, **turns) == ["b1", "b2", "b3"]


@pytest.mark.parametrize(
    ("status", "headers", "pauses"),
    [
        (503, {}, [0.5, 1.0, 2.0]),
        (429, {}, [5.0, 10.0, 20.0]),
        (429, {"Retry-After": "899"}, [899.0, 899.0, 899.0]),
    ],
)
def test_pauses_are_as_told_else_longer_each_time(status: int, headers: dict[str, str], pauses: list[float]) -> None:
    """A server that is asked too often is left alone for longer than one that fails."""
    asked = httpx.Request("GET", "http://shop.example")
    answer = httpx.Response(status, headers=headers, request=asked)
    found = []
    for attempt in (1, 2, 3):
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempt
        state.set_exception((httpx.HTTPStatusError, httpx.HTTPStatusError("", request=asked, response=answer), None))
        found.append(Asking()._wait(state))
    assert found == pauses


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([(503, {}, b"")] * 3, SourceDown, "503 to each of 3 attempts"),
        ([(200, {"Content-Length": "99"}, b"{")] * 3, SourceDown, "no whole answer in 3 attempts"),
        ([(429, {"Retry-After": "3600"}, b"")], SourceDown, "wait 3,600 s"),
        ([(200, {}, b"<html>log in</html>")], CorruptFile, "not JSON.*<html>log in"),
        ([(200, {}, b'{"items": []}')], CorruptFile, r"no list of objects at 'data\.items'"),
        ([page(1, next="a"), page(2, next="b"), page(3, next="a")], CorruptFile, "gave before.*after 3 pages"),
        ([(401, {}, b"")], SourceMissing, "401: it refuses our credential"),
        ([(404, {}, b"no such thing")], SourceMissing, "404 .*no such thing"),
        ([(302, {"Location": "/login"}, b"")], SourceMissing, r"302: it sends us on to http://127\.0\.0\.1;"),
        ([(200, {}, b'{"data": {"items": [{"tip": 1}]}}')], SchemaMismatch, "unknown value 'tip'"),
    ],
)
def test_what_does_not_pass_is_named(  # noqa: PLR0913
    api: Api,
    tmp_path: Path,
    answers: list[Answer],
    error: type[MercatoError],
    message: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a later run may mend is retryable, the rest is not; errors and logs show the address as the YAML spells
    it, without its query.
    """
    api.answers = list(answers)
    monkeypatch.setenv("KEY", SECRET)
    with pytest.raises(error, match=message) as refused, caplog.at_level(logging.INFO):
        read(api, tmp_path, url=f"{api.url}/$KEY?also=$KEY", pages={"cursor": "next"}, params={"key": SECRET})
    assert refused.value.retryable is (error is SourceDown)
    assert SECRET in api.asked[0]["path"]
    assert SECRET not in "".join(traceback.format_exception(refused.value)) + caplog.text
    assert not api.answers


def test_a_credential_with_a_line_break_is_mended_or_refused(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line break that ends a mounted file is left away; what no header carries is refused, unnamed."""
    auth = {"env": "ORDERS_TOKEN"}
    monkeypatch.setenv("ORDERS_TOKEN", f"{SECRET}\n")
    api.answers = [page(1)]
    read(api, tmp_path, auth=auth)
    assert api.asked[0]["auth"] == f"Bearer {SECRET}"
    for token, prefix, message in (
        (f"a\n{SECRET}", "Bearer ", "ORDERS_TOKEN.* control character"),
        (SECRET, "Bearer\n", r"cannot be asked \(LocalProtocolError\); check .*`source\.auth`"),
    ):
        monkeypatch.setenv("ORDERS_TOKEN", token)
        with pytest.raises(SourceMissing, match=message) as refused:
            read(api, tmp_path, auth={**auth, "prefix": prefix})
        assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_an_address_that_cannot_be_used(api: Api, tmp_path: Path) -> None:
    """A scheme we do not speak, a missing credential and a server that is not there each say what to do."""
    with pytest.raises(SourceMissing, match="no http"):
        read(api, tmp_path, url="ftp://127.0.0.1/x")
    with pytest.raises(SourceMissing, match="export NO_SUCH_TOKEN="):
        read(api, tmp_path, auth={"env": "NO_SUCH_TOKEN"})
    with pytest.raises(SourceDown, match="ConnectError"):
        read(api, tmp_path, url="http://127.0.0.1:1/orders")


def test_a_sample_is_the_first_page(api: Api, tmp_path: Path) -> None:
    """A look at the source costs one question."""
    spec = shop_of(source(api, pages={"cursor": "next"})).table("transactions")
    api.answers = [page(1, 2, 3, next="more")]
    assert HttpRecords(spec.source, spec, tmp_path, QUICK).sample(connect(), 2)["basket"].to_pylist() == ["b1", "b2"]
    assert pq.read_schema(tmp_path / "http-sample.parquet").names == list(COLUMNS)
