"""A first draft of a shop's YAML out of its files alone: every guess is explained, no gap is filled in silence."""

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from data_contracts.contract import Column
from data_contracts.errors import BadShop
from data_contracts.lake import connect
from data_contracts.shop import SHOPS
from training.adapters.files import open_files
from training.look import ROWS, Look, Profile, look
from training.moments import timestamp
from training.roles import Fit, fits

_NONE = '{constant: "0"}  # guess: no column looks like it, so there are none'
_WITHOUT = {
    **dict.fromkeys(("retail_discount_minor", "coupon_discount_minor", "coupon_match_discount_minor"), _NONE),
    "store_id": "{constant: main}  # guess: no column looks like it, so there is one store",
    "currency": '{constant: ""}  # FILL IN: the same code as above',
    "valid_from": "event_time",
}
"""Required columns that may have no column of their own."""
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "~"}
"""What YAML 1.1 takes for something else than text."""
_MARGIN = timedelta(days=2)
"""Beyond the last event: what happened late on the last day is known after it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a shop's YAML, and what is still open in it."""

    name: str
    text: str
    gaps: tuple[str, ...]
    """Keys that nobody can guess; `load_shop` refuses the file until they are filled in."""


def draft(paths: Sequence[str], name: str = "") -> Draft:
    """A draft of the shop that these files come from.

    Raises:
        CorruptFile: a file cannot be read at all.
        BadShop: no file fits a contract, or the name cannot be one.
    """
    name = name or re.sub(r"[^a-z0-9_]+", "_", Path(paths[0]).name.split(".")[0].lower()).strip("_0123456789")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BadShop(f"found the shop's name {name!r}; need small letters, digits and _, e.g. --name my_shop")
    looks = [look(each) for each in paths]
    tables: dict[str, Fit] = {}
    notes: list[str] = []
    for each in looks:
        fitting = [fit for fit in fits(each) if fit.contract.name not in tables]
        if not fitting:
            notes.append(f"# {_q(each.source.path)} fits no contract that is still free; its columns: {_listed(each)}")
            continue
        tables[fitting[0].contract.name] = fitting[0]
    _with_products(tables)
    if not tables:
        raise BadShop(f"no file fits a contract ({'; '.join(notes)}); write it by hand, see docs/sources.md")
    times = {table: _times(fit) for table, fit in tables.items()}
    body = [line for table, fit in tables.items() for line in _table(table, fit, times[table])]
    lines = [*_head(name, list(times.values())), *notes, "tables:", *body]
    return Draft(name, "\n".join(lines) + "\n", tuple(_gaps(lines)))


def _listed(seen: Look) -> str:
    """The columns of a file, and which of them are called by their place."""
    names = [column.name for column in seen.columns]
    blank = [name for place, name in enumerate(names, 1) if name == f"column_{place}"]
    return ", ".join(map(_q, names)) + (f" (without a name in it: {', '.join(blank)})" if blank else "")


def _gaps(lines: list[str]) -> Iterator[str]:
    """Dotted names of the keys whose comment asks for them."""
    above: dict[int, str] = {}
    for line in filter(None, lines):
        key, _, rest = line.partition(":")
        depth = len(key) - len(key.lstrip())
        above = {each: name for each, name in above.items() if each < depth} | {depth: key.strip()}
        if "# FILL IN" in rest and not key.startswith("#"):
            yield ".".join(above[each] for each in sorted(above))


def write(made: Draft, folder: Path = SHOPS) -> Path:
    """The file that a draft was written to; BadShop when there is one already."""
    path = folder / f"{made.name}.yaml"
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(made.text)
    except FileExistsError:
        raise BadShop(f"{path} is there already and is not overwritten; choose another --name") from None
    return path


def _with_products(tables: dict[str, Fit]) -> None:
    """Products out of the lines of bills, where no file describes them: sales refer to products."""
    bills = tables.get("transactions")
    if bills is None or "products" in tables:
        return
    there = next((each for each in fits(bills.look) if each.contract.name == "products"), None)
    if there is not None:
        tables["products"] = there


@dataclass(frozen=True, slots=True)
class _Times:
    """What the whole file says about the column that dates its rows."""

    column: Profile | None
    formats: tuple[str, ...]
    """Those that read every value; empty: ISO 8601 or a type."""
    first: date | None
    last: date | None


def _times(fit: Fit) -> _Times:
    """Read the whole file once: its first and last event, and the formats that no row contradicts."""
    name = fit.event[0] if fit.event else fit.watermark
    if not name:
        return _Times(None, (), None, None)
    profile = fit.look.column(name)
    declared = {each.name: str(each.kind) for each in fit.look.columns}
    with tempfile.TemporaryDirectory(prefix="mercato-draft-") as folder:
        rows = open_files(fit.look.source, declared, Path(folder)).whole(connect())
        wanted: dict[str, Any] = {"given": rows[name].count()}
        for i, form in enumerate(profile.formats or ("",)):
            at = timestamp(rows, name, zone="UTC", form=form)
            wanted |= {f"read{i}": at.count(), f"first{i}": at.min(), f"last{i}": at.max()}
        found = rows.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    fitting = [i for i in range(len(profile.formats)) if found[f"read{i}"] == found["given"]]
    best = fitting[0] if fitting else 0
    first, last = found[f"first{best}"], found[f"last{best}"]
    formats = tuple(profile.formats[i] for i in fitting) or profile.formats
    return _Times(profile if fit.event else None, formats, first and first.date(), last and last.date())


def _head(name: str, times: list[_Times]) -> Iterator[str]:
    days = [day for each in times for day in (each.first, each.last) if day]
    yield f"# Drafted by `mercato source init` from the first {ROWS:,} rows of each file. Check every guess; the shop"
    yield "# loads when each FILL IN is answered."
    yield f"name: {name}"
    yield 'zone: ""  # FILL IN: the IANA zone of the shop\'s clocks, e.g. Europe/London: no file says it'
    yield 'currency: ""  # FILL IN: the ISO code of the amounts, e.g. GBP'
    if days:
        monday = min(days) - timedelta(days=min(days).weekday())
        yield f"calendar: {{week_one: {monday}}}  # guess: the Monday of the first event"
        yield f"history: {{since: {min(days)}, until: {max(days) + _MARGIN}}}  # first event to two days after the last"
    else:
        yield "calendar: {}  # FILL IN: no file has times; {week_one: the date on which your week 1 begins}"
        yield "history: {}  # FILL IN: {since: first day, until: day after the last}"
    yield ""


def _table(table: str, fit: Fit, times: _Times) -> Iterator[str]:
    source = json.loads(fit.look.source.model_dump_json(exclude_defaults=True))
    dialect = source.pop("csv", {})
    yield f"  {table}:  # guess, by the names of {', '.join(map(_q, fit.columns.values()))}"
    if dialect:
        yield "    source:"
        yield from (f"      {key}: {_q(value)}" for key, value in source.items())
        yield f"      csv: {json.dumps(dialect, ensure_ascii=False)}"
    else:
        yield f"    source: {{{', '.join(f'{key}: {_q(value)}' for key, value in source.items())}}}"
    yield "    columns:"
    yield from (f"      {_q(each.name)}: {each.kind}{_said(each)}" for each in fit.look.columns)
    yield from _moments(fit, times)
    key = fit.columns.get("product_id", "")
    if table == "products" and key and not fit.look.column(key).unique:
        changing = [column for role, column in fit.columns.items() if role != "product_id"] or [key]
        yield (
            f"    changes: {{of: {_q(key)}, columns: [{', '.join(map(_q, changing))}]}}"
            f"  # guess: {_q(key)} repeats, so each row is a version"
        )
    yield "    mapping:"
    for column in fit.contract.columns:
        if column.name not in {"event_time", "known_at"} and (line := _mapped(fit, column)):
            yield f"      {line}"
    yield ""


def _said(profile: Profile) -> str:
    found = []
    if profile.unique:
        found.append("no value twice: a key?")
    if profile.missing:
        found.append(f"{100 * profile.missing / profile.rows:.1f} % missing")
    if profile.negative:
        found.append(f"{profile.negative:,} negative: returns? see `reject`")
    return f"  # {', '.join(found)}" if found else ""


def _moments(fit: Fit, times: _Times) -> Iterator[str]:
    """`event_time` and `known_at`; both stay open where several answers fit."""
    at, week = times.column, next((each.name for each in fit.look.columns if each.name.lower() == "week"), "")
    others = f"; others: {', '.join(map(_q, fit.event[1:]))}" if fit.event[1:] else ""
    form = f", format: {_q(times.formats[0])}" if times.formats else ""
    if at is None and week:
        yield f"    event_time: {{week: {_q(week)}}}  # guess: number of the shop's week; check calendar.week_one"
    elif at is None:
        yield "    event_time: {}  # FILL IN: no column is a time; e.g. {constant: 2020-01-01T00:00:00Z, reason: ...}"
    elif len(times.formats) > 1:
        forms = " or ".join(times.formats)
        yield f"    event_time: {{}}  # FILL IN: {{timestamp: {_q(at.name)}, format: ...}}; every row reads as {forms}"
    elif at.zoned:
        yield f"    event_time: {{timestamp: {_q(at.name)}{form}}}  # guess: it states its own offset{others}"
    else:
        yield f'    event_time: {{timestamp: {_q(at.name)}{form}, zone: ""}}  # FILL IN zone: its clock\'s{others}'
    if fit.watermark:
        mark = fit.look.column(fit.watermark)
        form = f", format: {_q(mark.formats[0])}" if mark.formats else ""
        yield (
            f"    known_at: {{column: {_q(fit.watermark)}{form}, reason: the source stamps its rows}}"
            "  # guess by its name; UTC unless you add a zone"
        )
    else:
        yield "    known_at: {}  # FILL IN: how long until a row reaches you, e.g. {delay: PT15M, reason: ...}"


def _mapped(fit: Fit, column: Column) -> str:
    """A line of `mapping`, empty for an optional column that nothing seems to hold."""
    name, found, price = column.name, fit.columns.get(column.name, ""), fit.columns.get("unit_price", "")
    if found:
        rule = _rule(name, _q(found))
    elif name == "sales_minor" and price:
        times = fit.columns["quantity"]
        rule = f"{{money: {_q(price)}, times: {_q(times)}}}  # guess: {_q(price)} is the price of one"
    elif column.required:
        rule = _WITHOUT.get(name, f'""  # FILL IN: {column.description}')
    else:
        return ""
    return f"{name}: {rule}"


def _rule(name: str, found: str) -> str:
    """How the contract column `name` is made of a column that looks like it."""
    if name == "customer_key":
        return f"{{identity: {found}}}"
    if name.endswith("_minor"):
        return f"{{money: {found}}}  # guess: major units, e.g. 1.50"
    if name in {"starts_at", "ends_at"}:
        return f'{{timestamp: {found}, zone: ""}}  # FILL IN zone'
    return found


def _q(value: object) -> str:
    """A YAML scalar, quoted where it must be."""
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z_$~/][\w$~/.\- ]*", text) and text.lower() not in _YAML_WORDS
    return text if plain and text == text.strip() else json.dumps(text, ensure_ascii=not text.isprintable())
