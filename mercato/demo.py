"""The whole loop on one machine: a real Airflow runs every DAG on a shop's history, then a page is served.

What `make demo` runs. A second run finds its release current and only serves.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import FrameType

import httpx
import psutil

from data_contracts.shop import load_shop
from mercato import clock
from mercato.demo_airflow import Airflow, NotReady, TaskRun, environment, tail
from mercato.demo_checks import check_gateway, check_links
from mercato.demo_households import write_households
from mercato.demo_state import Made, Plan, current, plan, remember
from mercato.demo_view import View, busy_seconds, dag_seconds
from mercato.errors import BadSetting, MercatoError
from mercato.guardian import Guardian, Service, ServiceStopped
from mercato.settings import Settings

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
}
_MB = 1024 * 1024
_MEMORY_EVERY_SECONDS = 3.0
"""Adding up the pages of a dozen processes costs a tenth of a second."""
_NEIGHBOURS = ("airflow", "mlflow", "drift_reports")
"""Each takes the next port after the gateway's."""


def demo(settings: Settings, *, exit_after: bool) -> int:
    """Exit code: 0 when the demo was stopped by hand, or with `exit_after` when every check held; 1 otherwise."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    view = View()
    ports = _ports(settings)
    env = _environment(settings, ports)
    with Guardian() as guardian:
        try:
            held = _run(settings, guardian, view, ports, env)
            if not exit_after:
                view.say("[bold]Ctrl-C stops everything.[/bold]")
                _watch(guardian)
        except KeyboardInterrupt:
            view.say("stopping everything")
            held = not exit_after
        family = psutil.Process(guardian.pid).children(recursive=True)
    left = [each.pid for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    view.say(f"still running: {left}" if left else "everything that was started has ended")
    return 0 if held and not left else 1


def _run(settings: Settings, guardian: Guardian, view: View, ports: Mapping[str, int], env: dict[str, str]) -> bool:
    clock.check_shop(settings.root / "clock.json", settings.shop)
    shop = load_shop(settings.shop)
    steps = plan(settings, shop)
    made = current(settings, steps.digest)
    drops = bool(shop.drops)
    airflow_env = environment(settings.root, ports["airflow"], env, drops=drops)
    airflow = Airflow(guardian, airflow_env, settings.root / "logs", drops)
    links: dict[str, str] = {}
    if made:
        view.say(f"release {made.release_id} is current: code, data and settings are unchanged")
        _start_gateway(settings, guardian, env, steps)
        _wait_gateway(settings, guardian, view)
        Thread(target=_start_quietly, args=(airflow,), daemon=True).start()
        links.update(_look(settings, guardian, ports, env))
    else:

        def assembled(release_id: str) -> None:
            since = time.monotonic()
            n = write_households(settings, shop, steps.at) if shop.sells else 0
            view.say(f"{n} households to look at")
            view.stage("households for the page", since)
            _make_live(settings, release_id, steps)
            _start_gateway(settings, guardian, env, steps)
            links.update(_look(settings, guardian, ports, env))

        made = _chain(airflow, view, steps, assembled)
        _wait_gateway(settings, guardian, view)
        remember(settings, made)
        (settings.root / "demo" / "stages.json").write_text(json.dumps(dict(view.stages), indent=1))
    held = _check(settings, view, made, steps, links)
    view.say(f"[bold]the page        {settings.url}[/bold]")
    for name, url in links.items():
        view.say(f"{name.replace('_', ' '):<15} {url}")
    view.table()
    return held


def _chain(airflow: Airflow, view: View, steps: Plan, assembled: Callable[[str], None]) -> Made:
    """Run `bootstrap` and show every task; `assembled` gets the release while its quality is still measured."""
    since = time.monotonic()
    view.say("starting Airflow")
    airflow.start()
    airflow.wait_ready()
    view.stage("Airflow ready", since)
    run_id = f"demo-{clock.real():%Y%m%dT%H%M%SZ}"
    view.say(f"Airflow is ready at {airflow.url}; running bootstrap as {run_id}")
    since, peak, measured, tasks, release_id = time.monotonic(), (0.0, ""), 0.0, list[TaskRun](), ""
    airflow.give_up("demo-")  # else it would go on with them, and bootstrap would wait for its own earlier run
    airflow.trigger("bootstrap", run_id, steps.conf())
    for tasks in airflow.follow("bootstrap", run_id):
        view.tasks(tasks)
        if time.monotonic() - measured > _MEMORY_EVERY_SECONDS:
            peak, measured = max(peak, (_memory(), _at_work(tasks))), time.monotonic()
        if not release_id and any(each.task_id == "make_first_live" and each.state == "success" for each in tasks):
            release_id = airflow.result("assemble_release", run_id, "assemble")["release_id"]
            assembled(release_id)
    wall, busy = time.monotonic() - since, busy_seconds(tasks)
    view.stages.extend(dag_seconds(tasks))
    view.stage("the chain of DAGs, wall clock", since)
    view.stages.append(("of it orchestration (no task at work)", wall - busy))
    memory = f"peak memory {peak[0] / 1024:.1f} GiB ({peak[1]})"
    view.say(f"chain {wall:.1f} s, orchestration {(wall - busy) / wall:.1%}, {memory}")
    return Made(steps.digest, release_id, run_id)


def _make_live(settings: Settings, release_id: str, steps: Plan) -> None:
    """The chain made the shop's first release live; a later one, of changed code or data, goes live here."""
    from monitoring.rollout import make_live

    now = clock.start_shifted(settings.root / "clock.json", steps.at, settings.shop)()
    make_live(settings, release_id, at=now, reason="the demo ran again")


def _start_gateway(settings: Settings, guardian: Guardian, env: dict[str, str], steps: Plan) -> None:
    """The gateway, on its way."""
    clock.start_shifted(settings.root / "clock.json", steps.at, settings.shop)
    guardian.start(Service("gateway", [sys.executable, "-m", "mercato.cli", "serve"], _gateway_log(settings), env))


def _wait_gateway(settings: Settings, guardian: Guardian, view: View) -> None:
    """Until the gateway is ready."""
    since = time.monotonic()
    log = _gateway_log(settings)
    while not _answers(f"{settings.url}/readyz"):
        if "gateway" in guardian.ended():
            raise ServiceStopped(f"the gateway ended by itself; its log is {log}:\n{tail(log)}")
        if time.monotonic() - since > 120:  # noqa: PLR2004
            raise NotReady(f"waited 120 s for the gateway; its log is {log}:\n{tail(log)}")
        time.sleep(0.2)
    view.stage("waiting for the gateway", since)


def _gateway_log(settings: Settings) -> Path:
    return settings.root / "logs" / "gateway.log"


def _check(settings: Settings, view: View, made: Made, steps: Plan, links: Mapping[str, str]) -> bool:
    since = time.monotonic()
    checks = [*check_gateway(settings, made.release_id, steps.at), *check_links(links)]
    for check in checks:
        mark = "[green]holds[/green]" if check.holds else "[red]FAILS[/red]"
        view.say(f"{mark}  {check.rule}" + ("" if check.holds else f": {check.found}"))
    view.stage("checks over HTTP", since)
    return all(check.holds for check in checks)


def _look(settings: Settings, guardian: Guardian, ports: Mapping[str, int], env: dict[str, str]) -> dict[str, str]:
    """Start what people look at beside the page; name -> where it will answer."""
    python, host = sys.executable, "127.0.0.1"
    pages = {
        "mlflow": ["-m", "mlflow", "server", "--backend-store-uri", settings.mlflow(), "--workers", "1"],
        "drift_reports": ["-m", "evidently.cli", "ui", "--workspace", str(settings.root / "drift" / "evidently")],
    }
    for name, arguments in pages.items():
        command = [python, *arguments, "--host", host, "--port", str(ports[name])]
        guardian.start(Service(name, command, settings.root / "logs" / f"{name}.log", env))
    links = {name: f"http://{host}:{ports[name]}" for name in _NEIGHBOURS}
    (settings.root / "demo").mkdir(exist_ok=True)
    (settings.root / "demo" / "links.json").write_text(json.dumps(links, indent=1))
    return links


def _ports(settings: Settings) -> dict[str, int]:
    """Ports of everything beside the gateway, by name; all are free, and so is the gateway's."""
    from serving.run import address, check_port

    host, first = address(settings.url)
    ports = {name: first + i for i, name in enumerate(_NEIGHBOURS, start=1)}
    if first + len(ports) > 65535:  # noqa: PLR2004
        raise BadSetting(f"MERCATO_URL is {settings.url!r}; the demo needs the {len(ports)} ports after it too")
    check_port(host, first)
    for port in ports.values():
        check_port("127.0.0.1", port)
    return ports


def _environment(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        **_QUIET,
        "MERCATO_HOME": str(settings.root),
        "MERCATO_SHOP": settings.shop,
        "MERCATO_CLOCK": "shifted",
        "MERCATO_PAGE": "true",
        "MERCATO_MLFLOW_UI_URL": f"http://127.0.0.1:{ports['mlflow']}",
        "MERCATO_DRIFT_UI_URL": f"http://127.0.0.1:{ports['drift_reports']}",
    }


def _memory() -> float:
    """MiB held by this process and all below it, shared pages counted once."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / _MB


def _at_work(tasks: list[TaskRun]) -> str:
    """Names of the tasks at work."""
    names = [f"{each.dag_id}.{each.task_id}" for each in tasks if each.works and each.state == "running"]
    return ", ".join(names) or "between tasks"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _start_quietly(airflow: Airflow) -> None:
    """Airflow for looking at; the page does not wait for it, nor fail without it."""
    try:
        airflow.start()
    except MercatoError as error:
        Path(airflow.logs / "airflow-start.log").write_text(f"{error}\n")


def _watch(guardian: Guardian) -> None:
    """Return never; ServiceStopped when the gateway ends by itself."""
    while "gateway" not in guardian.ended():
        time.sleep(1)
    raise ServiceStopped("the gateway ended by itself; its log is logs/gateway.log in MERCATO_HOME")


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
