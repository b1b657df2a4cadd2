"""The validation report of a dataset version: one HTML file for people, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.checks import Measured
from data_contracts.contract import Contract
from training.datasets.builder import SPLIT, SPLITS
from training.judging import Tally

if TYPE_CHECKING:
    from training.datasets.versions import DatasetManifest

_MOST_CLASSES = 40
"""Text columns with more values than this are no classes."""
_COLOURS = {"train": "#2b6cb0", "validation": "#dd8a1d", "test": "#2f855a"}
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1a202c;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e2e8f0;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.ok{color:#276749;font-weight:600}.warn{color:#9c5700;font-weight:600}
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}
code{background:#edf2f7;padding:0 .25em;border-radius:3px;overflow-wrap:anywhere}
svg{width:100%;height:auto}.wide{overflow-x:auto}
"""


def page(manifest: DatasetManifest, contract: Contract, rows: pa.Table, found: Sequence[Measured], tally: Tally) -> str:
    """The HTML of a version's report; the same version gives the same text."""
    parts = [
        f"<h1>{escape(manifest.name)} <code>{escape(manifest.version)}</code></h1>",
        f"<p>{escape(contract.description['purpose'])}</p>",
        f"<p>{escape(contract.description.get('limitations', ''))}</p>",
        section("Counts", _counts(manifest)),
        section("Splits", _splits(manifest)),
        section("Splits over time", _over_time(rows)),
        section("Rules over rows", _row_rules(contract, manifest)),
        section("Rules over the table", _table_rules(contract, found)),
        section("Leakage", table_of(("checked", "found"), manifest.leakage.items())),
        section("Columns", _columns(contract, rows)),
        *(section(f"Balance of {name}", _balance(rows, name)) for name in _classes(contract, rows)),
        section("Rows set aside", _examples(tally)),
    ]
    return document(manifest.name, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A whole HTML page of `parts`, which are HTML; nothing in it is loaded from elsewhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _counts(manifest: DatasetManifest) -> str:
    stated = {
        "contract": manifest.contract,
        "from, until": f"{manifest.since.isoformat()}, {manifest.until.isoformat()}",
        "rows read": f"{manifest.read:,}",
        "rows kept": f"{manifest.rows:,}",
        "set aside": f"{manifest.set_aside:,}",
        "duplicates removed": f"{manifest.duplicates:,}",
        "known too late for their split": f"{manifest.between_splits:,}",
        "SHA-256 of the rows": manifest.sha256,
        **{f"made of {name}": digest for name, digest in manifest.inputs.items()},
    }
    return table_of(("what", "value"), stated.items())


def _splits(manifest: DatasetManifest) -> str:
    total = max(manifest.rows, 1)
    rows = [
        (
            name,
            f"{part.rows:,}",
            f"{100 * part.rows / total:.1f} %",
            part.since.isoformat() if part.since else "",
            part.until.isoformat() if part.until else "",
        )
        for name, part in manifest.splits.items()
    ]
    begins = ", ".join(each.isoformat() for each in manifest.cuts) or "not split by time"
    return table_of(("split", "rows", "share", "first event", "last event"), rows, numbers=(1, 2)) + (
        f"<p>Split by {escape(manifest.split)}; validation and test begin at: {escape(begins)}.</p>"
    )


def _over_time(rows: pa.Table) -> str:
    """Stacked bars of rows per month and split."""
    months = pc.strftime(rows["event_time"], format="%Y-%m").to_pylist()
    counts = Counter(zip(months, rows[SPLIT].to_pylist(), strict=True))
    named = sorted({month for month, _ in counts})
    if not named:
        return "<p>No rows.</p>"
    top = max(sum(counts[month, split] for split in SPLITS) for month in named)
    step = 900 / len(named)
    bars = []
    for at, month in enumerate(named):
        y = 180.0
        for split in SPLITS:
            n = counts[month, split]
            height = 170 * n / top
            y -= height
            bars.append(
                f'<rect x="{40 + at * step:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{height:.1f}" '
                f'fill="{_COLOURS[split]}"><title>{month} {split}: {n:,}</title></rect>'
            )
        if at % max(1, len(named) // 12) == 0:
            bars.append(f'<text x="{40 + (at + 0.4) * step:.1f}" y="198" text-anchor="middle">{month}</text>')
    keys = "".join(f'<span class="key" style="background:{_COLOURS[split]}"></span>{split}' for split in SPLITS)
    return (
        f'<p>Rows per month, at most {top:,}.{keys}</p><svg viewBox="0 0 960 205" font-size="12" role="img" '
        f'aria-label="rows per month and split">{"".join(bars)}</svg>'
    )


def _row_rules(contract: Contract, manifest: DatasetManifest) -> str:
    rows: list[tuple[str, ...]] = []
    for column in contract.columns:
        if column.required:
            name = f"{column.name}_missing"
            rows.append(
                (name, "completeness", "error", f"{manifest.broken.get(name, 0):,}", "the contract requires it")
            )
        for rule in column.quality:
            counts = manifest.broken if rule.severity == "error" else manifest.warned
            rows.append((rule.name, rule.dimension, rule.severity, f"{counts.get(rule.name, 0):,}", rule.description))
    named = {row[0] for row in rows}
    rows += [(name, "", "error", f"{n:,}", "") for name, n in manifest.broken.items() if name not in named]
    return table_of(("rule", "dimension", "severity", "rows", "reason"), rows, numbers=(3,))


def _table_rules(contract: Contract, found: Sequence[Measured]) -> str:
    measured = {each.rule.name: each for each in found}
    rows = []
    for rule in contract.table_rules:
        each = measured.get(rule.name)
        verdict = "not judged: too few rows" if each is None else "holds" if each.holds else f"BROKEN: {each}"
        value = "" if each is None else f"{each.value:g} {rule.unit}"
        rows.append((rule.name, rule.dimension, rule.severity, value, verdict, rule.description))
    return table_of(("rule", "dimension", "severity", "found", "verdict", "reason"), rows)


def _columns(contract: Contract, rows: pa.Table) -> str:
    total = max(rows.num_rows, 1)
    said = []
    for column in contract.columns:
        values = rows[column.name]
        span = ""
        if column.logicalType in {"integer", "number", "timestamp"} and rows.num_rows:
            low_high = pc.min_max(values)
            span = f"{low_high['min'].as_py()} to {low_high['max'].as_py()}"
        nulls = f"{values.null_count:,} ({100 * values.null_count / total:.1f} %)"
        distinct = f"{pc.count_distinct(values).as_py():,}"
        said.append((column.name, column.logicalType, column.classification, nulls, distinct, span, column.description))
    head = ("column", "type", "classification", "nulls", "distinct", "range", "meaning")
    return table_of(head, said, numbers=(3, 4))


def _classes(contract: Contract, rows: pa.Table) -> list[str]:
    """Columns with few values: those whose balance people want to see."""
    asked = [rule.arguments.column for rule in contract.table_rules if rule.measures == "smallestClass"]
    few = [
        column.name
        for column in contract.columns
        if column.logicalType in {"string", "boolean"}
        and column.classification != "confidential"
        and column.name not in contract.key
        and 1 <= pc.count_distinct(rows[column.name]).as_py() <= _MOST_CLASSES
    ]
    return list(dict.fromkeys([*asked, *few]))


def _balance(rows: pa.Table, name: str) -> str:
    counts: Counter[tuple[str, str]] = Counter(
        zip(map(str, rows[name].to_pylist()), rows[SPLIT].to_pylist(), strict=True)
    )
    totals: Counter[str] = Counter()
    for (value, _), n in counts.items():
        totals[value] += n
    body = [
        (
            value,
            f"{n:,}",
            f"{100 * n / max(rows.num_rows, 1):.1f} %",
            *(f"{counts[value, split]:,}" for split in SPLITS),
        )
        for value, n in sorted(totals.items(), key=lambda each: (-each[1], each[0]))[:_MOST_CLASSES]
    ]
    return table_of(("value", "rows", "share", *SPLITS), body, numbers=(1, 2, 3, 4, 5))


def _examples(tally: Tally) -> str:
    if not tally.examples:
        return "<p>None.</p>"
    return "".join(f"<p><code>{escape(each)}</code></p>" for each in tally.examples)


def section(title: str, body: str) -> str:
    """A heading and its HTML."""
    return f'<h2>{escape(title)}</h2><div class="wide">{body}</div>'


def table_of(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> str:
    """An HTML table; columns whose places are in `numbers` are set to the right."""

    def cell(tag: str, at: int, value: Any) -> str:
        text = str(value)
        kind = "n" if at in numbers else "ok" if text == "holds" else "warn" if text.startswith("BROKEN") else ""
        label = f' class="{kind}"' if kind else ""
        return f"<{tag}{label}>{escape(text)}</{tag}>"

    heads = "".join(cell("th", at, each) for at, each in enumerate(head))
    body = "".join(f"<tr>{''.join(cell('td', at, each) for at, each in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
