"""A failed task and a late run reach a person: the log always, a webhook where one is set."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from dags.policies import DEFAULT_ARGS, deadline_missed
from dags.runs import publish
from data_contracts.errors import CorruptFile
from monitoring import alerts


class Webhook(HTTPServer):
    """Keeps what was posted; answers `status`, or nothing before the test is over."""

    status = 200

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret-token"


class Answer(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if not self.server.status:
            self.server.over.wait(60)
            return
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A server on loopback that `MERCATO_ALERT_WEBHOOK` names."""
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("MERCATO_ALERT_WEBHOOK", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def fail(error: BaseException | str) -> list[Any]:
    """What is logged when a task fails for good."""
    task = SimpleNamespace(
        dag_id="extract_sources", task_id="extract_products", run_id="manual__1", log_url="http://airflow.example/log"
    )
    with capture_logs() as logs:
        DEFAULT_ARGS["on_failure_callback"]({"ti": task, "exception": error})
    return logs


FAILED = {
    "event": "task.failed",
    "dag_id": "extract_sources",
    "run_id": "manual__1",
    "task_id": "extract_products",
    "error": "CorruptFile",
    "log_url": "http://airflow.example/log",
    "runbook": "docs/runbooks/extract_sources.md",
}


def test_a_failed_task_is_logged_and_posted(webhook: Webhook) -> None:
    """Line and JSON name task, run, kind of error, log and runbook; the message, which may quote rows, stays."""
    logs = fail(CorruptFile("a row of household 7"))
    assert logs == [{**FAILED, "log_level": "error"}]
    (got,) = webhook.got
    assert {name: value for name, value in got.items() if name != "text"} == FAILED
    assert got["text"].startswith("task.failed, dag_id extract_sources, ")
    assert "household" not in json.dumps([logs, got])


def test_a_missed_deadline_is_logged_and_posted(webhook: Webhook) -> None:
    """The alert names the DAG, the run and the runbook."""
    deadline_missed(context={"dag_run": {"dag_id": "train_als", "dag_run_id": "scheduled__1"}})
    (got,) = webhook.got
    assert (got["event"], got["run_id"], got["runbook"]) == (
        "dag.deadline_missed", "scheduled__1", "docs/runbooks/train_als.md"
    )  # fmt: skip


def test_a_table_rule_that_warns_is_logged_and_posted(webhook: Webhook) -> None:
    """The task goes on: a warning with the table, the rule and what was found, one for each."""
    task = SimpleNamespace(dag_id="clean_tables", task_id="clean_products", run_id="manual__1", outlets=[])
    context = {
        "ti": task, "task": task, "outlet_events": {}, "params": {"since": None, "until": "2017-12-04T05:00:00Z"},
        "dag_run": SimpleNamespace(run_type="manual", partition_key=None),
    }  # fmt: skip
    result = {"table": "products", "alarms": ("few_nulls: found 7 percent, need <= 5",)}
    with capture_logs() as logs:
        assert publish(context, result) == result
        publish(context, {"table": "products", "alarms": ()})
    (got,) = webhook.got
    assert (got["event"], got["table"], got["found"]) == ("table.rule_warned", "products", result["alarms"][0])
    assert [each["log_level"] for each in logs] == ["warning"]


def test_nothing_is_sent_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting no connection is tried."""
    monkeypatch.delenv("MERCATO_ALERT_WEBHOOK", raising=False)
    monkeypatch.setattr(alerts.httpx, "post", lambda *_, **__: pytest.fail("posted"))
    assert [each["event"] for each in fail("killed")] == ["task.failed"]


@pytest.mark.parametrize("status", [500, 0, None])
def test_a_webhook_that_fails_fails_nothing_else(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    """An error, no answer in time, no address at all: the callback returns, and the log has no word of the address."""
    monkeypatch.setattr(alerts, "TIMEOUT_SECONDS", 0.2)
    if status is None:
        monkeypatch.setenv("MERCATO_ALERT_WEBHOOK", "no address secret-token")
    else:
        webhook.status = status
    logs = fail(CorruptFile("cut"))
    assert [each["event"] for each in logs] == ["task.failed", "alert.not_sent"]
    assert "secret-token" not in json.dumps(logs)
