"""`make bench`: every figure that the docs quote, measured in one run beside its rival, as a table and as JSON.

Works on what `make demo` made (MERCATO_HOME). `--only serving` measures one part.
"""

import argparse
import json
import os
import platform
import sys
import warnings
from typing import Any

from mercato import log
from mercato.settings import Settings
from tests.bench import (
    data,
    embeddings,
    intent,
    join,
    quality,
    query,
    redaction,
    search,
    serving,
    suggest,
    swap,
    training,
)


def chain(settings: Settings) -> dict[str, float]:
    """Seconds per stage of the last whole demo, orchestration among them."""
    path = settings.root / "demo" / "stages.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


PARTS = {
    "serving": serving.measure,
    "release": swap.measure,
    "chain": chain,
    "training": training.measure,
    "data": data.measure,
    "join": join.measure,
    "quality": quality.measure,
    "redaction": redaction.measure,
    "search": search.measure,
    "million": search.measure_million,
    "understanding": query.measure,
    "suggest": suggest.measure,
    "embeddings": embeddings.measure,
    "intent": intent.measure,
}


CHORUS = ("search", "million", "understanding", "embeddings")
"""Parts that read the catalogue of Chorus."""


def lines(found: dict[str, Any]) -> list[str]:
    """The table for people."""
    out = []
    for name, loads in found.get("serving", {}).items():
        if isinstance(loads, list):
            out += [
                f"{name:<14} concurrency {load['concurrency']:>2}: p50 {load['p50_ms']:7.2f} ms  p95 "
                f"{load['p95_ms']:7.2f} ms  p99 {load['p99_ms']:7.2f} ms  {load['per_second']:6.0f}/s  "
                f"{load['failed']} failed"
                for load in loads
            ]
        else:
            out.append(f"{name}: {loads:.2f}")
    for part in ("release", "chain"):
        out += [f"{part}: {name:<40} {value:8.2f}" for name, value in found.get(part, {}).items()]
    for each in found.get("training", []):
        out.append(f"{each['what']:<28} {each['seconds']:7.1f} s  {each['peak_mb']:6.0f} MB")
    for each in found.get("data", []):
        out.append(
            f"{each['what']:<8} {each['times']} x the year ({each['csv_mb']:.0f} MB of CSV): {each['seconds']:6.1f} s  "
            f"CPU {each['cpu_seconds']:6.1f} s  {each['csv_mb'] / each['cpu_seconds']:5.1f} MB per CPU second  "
            f"peak {each['peak_mb']:6.0f} MB"
        )
    for each in found.get("join", []):
        out.append(
            f"join of {join.ROWS:,} rows, {each['snapshots']} snapshots, {each['what']:<8} {each['seconds']:6.1f} s  "
            f"{each['per_second']:9,.0f} rows/s"
        )
    for origin in found.get("quality", {}).get("origins", []):
        for row in origin["rows"]:
            low, high = row["interval"]
            gain = row["served_gain"]
            said = f"  served gains {gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]" if gain else ""
            out.append(
                f"week {origin['week']} {row['goal']:<5} {row['slice']:<20} {row['method']:<17}"
                f" NDCG@10 {row['ndcg_at_10']:.4f} [{low:.4f}, {high:.4f}]{said}"
            )
    out += search.lines(found.get("search", {}))
    out += search.million_lines(found.get("million", []))
    out += found.get("understanding", [])
    out += suggest.lines(found.get("suggest", []))
    out += embeddings.lines(found.get("embeddings", []))
    for goal, gain in found.get("quality", {}).get("gains", {}).items():
        out.append(
            f"four origins, {goal}: over {gain['over']}: {gain['gain']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        )
    out += redaction.lines(found.get("redaction", {}))
    return out + intent.lines(found.get("intent", []))


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(PARTS), help="one part")
    chosen = parser.parse_args().only
    warnings.simplefilter("ignore")
    log.configure()
    settings = Settings()
    found: dict[str, Any] = {"machine": {"python": platform.python_version(), "cpu": platform.machine()}}
    for name, measure in PARTS.items():
        if chosen not in (None, name):
            continue
        if name in CHORUS and not os.environ.get("MERCATO_SOURCES"):
            if chosen:
                parser.error(f"{name} reads the Chorus catalogue: set MERCATO_SOURCES to the folder of its zipped JSON")
            print(f"left out: {name}, because MERCATO_SOURCES is not set", file=sys.stderr)
            continue
        print(f"measuring {name}", file=sys.stderr)
        found[name] = measure(settings)
    print("\n".join(lines(found)), file=sys.stderr)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
