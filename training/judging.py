"""Rules over a whole table: counts against bounds and the recent past, and the error that shows why."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.checks import BROKEN, WARNED, Measured
from data_contracts.contract import Contract, TableRule
from data_contracts.errors import TableRuleBroken
from data_contracts.partitions import Manifest, manifests
from data_contracts.shop import Shop
from mercato.paths import Lake

EXAMPLES = 3
_LOOK_BACK = timedelta(days=42)
_WEEKS = 4
"""Earlier days of the same weekday that a day's volume is compared with; three of them must be there."""

_EXPECTED = ", or say in the shop's YAML what is expected: `reject` names rows, `sums` adds lines of one key up"
"""What else helps where too many rows are bad or repeated."""


@dataclass(slots=True)
class Tally:
    """Counts of one run, filled chunk by chunk."""

    raw: int = 0
    clean: int = 0
    quarantined: int = 0
    duplicates: int = 0
    added_up: int = 0
    rejected: int = 0
    """Quarantined rows that the shop's own rules expected."""
    broken: Counter[str] = field(default_factory=Counter)
    """Row rule -> rows that it sent to quarantine."""
    warned: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    """Some broken rows, with their rules."""
    strangers: Counter[str] = field(default_factory=Counter)
    """Table rule -> clean rows whose reference is not held."""
    nulls: Counter[str] = field(default_factory=Counter)
    """Column -> clean rows without a value."""
    classes: dict[str, Counter[str]] = field(default_factory=dict)
    """Column that a rule wants balanced -> value -> clean rows."""

    def count(
        self,
        contract: Contract,
        good: pa.Table,
        bad: pa.Table,
        references: Mapping[str, pa.Array],
        expected: Collection[str] = (),
    ) -> None:
        """Add some rows.

        Args:
            contract: whose rules were asked.
            good: rows that passed: the contract's columns, perhaps WARNED.
            bad: rows that did not: BROKEN and `source_row`.
            references: table rule -> values that its column may hold.
            expected: the shop's own rules; what they set aside is no sign of a broken source.
        """
        self.clean += good.num_rows
        self.quarantined += bad.num_rows
        for found in bad[BROKEN].value_counts().to_pylist():
            self.rejected += found["counts"] if set(expected) & set(found["values"].split(",")) else 0
        self.broken.update(_names(bad[BROKEN]))
        if WARNED in good.column_names:
            self.warned.update(_names(good[WARNED]))
        room = EXAMPLES - len(self.examples)
        for row in bad.slice(0, max(room, 0)).select([BROKEN, "source_row"]).to_pylist():
            self.examples.append(f"{row[BROKEN]}: {row['source_row']}")
        self.nulls.update({column.name: good[column.name].null_count for column in contract.columns})
        for rule in contract.table_rules:
            if rule.measures == "referenceHeld":
                held = pc.is_in(good[rule.arguments.column], value_set=references[rule.name])
                self.strangers[rule.name] += good.num_rows - (pc.sum(held).as_py() or 0)
            elif rule.measures == "smallestClass":
                found = good[rule.arguments.column].value_counts().to_pylist()
                counter = self.classes.setdefault(rule.arguments.column, Counter())
                counter.update({str(each["values"]): each["counts"] for each in found})


@dataclass(frozen=True, slots=True)
class Past:
    """What came before, and in, a scheduled window; rules on freshness, volume and null spikes are judged by it."""

    days: list[date]
    until: datetime
    raw: list[Manifest]
    """Six weeks up to the window's end, the window included; further back the newest alone.

    No event of theirs is later than the end of the day on which it was known.
    """
    clean: list[Manifest]
    """Six weeks before the window."""

    @classmethod
    def of(cls, lake: Lake, shop: Shop, table: str, since: datetime, until: datetime) -> "Past":
        """The manifests that a window's run is compared with."""
        days = shop.whole_days(since, until)
        first, last = days[0] - _LOOK_BACK, days[-1]
        raw = manifests(lake, "raw", table, first, last)
        if not raw:
            older = [each for each in lake.days("raw", table) if each < first.isoformat()]
            raw = manifests(lake, "raw", table, *[date.fromisoformat(older[-1])] * 2) if older else []
        raw = [_until_its_day(shop, each) for each in raw]
        return cls(days, until, raw, manifests(lake, "clean", table, first, days[0] - timedelta(days=1)))


def _until_its_day(shop: Shop, found: Manifest) -> Manifest:
    """A day's manifest whose newest event is of that day at the latest: a date that is wrong makes no table fresh."""
    end = shop.day_bounds(found.ds)[1]
    newest = found.event_time_max
    return found.model_copy(update={"event_time_max": end}) if newest and newest > end else found


def judge(contract: Contract, tally: Tally, days: int, past: Past | None) -> list[Measured]:
    """What each table rule found; those that a run is too small for, or that need a schedule, are left out.

    Raises:
        TableRuleBroken: a rule of severity error does not hold; with counts and examples.
    """
    found = [each for rule in contract.table_rules if (each := _measure(contract, tally, rule, days, past))]
    broken = [each for each in found if not each.holds and each.rule.severity == "error"]
    if broken:
        of_rows = any(each.rule.measures in {"quarantined", "duplicateValues"} for each in broken)
        rules = ", ".join(f"{name} {count:,}" for name, count in tally.broken.most_common())
        raise TableRuleBroken(
            f"{contract.label}: {'; '.join(map(str, broken))}. {tally.raw:,} raw rows, {tally.clean:,} clean, "
            f"{tally.quarantined:,} bad ({rules or 'no row rule broken'}), {tally.duplicates:,} duplicates. "
            f"Examples: {tally.examples or 'none'}. Nothing was written; correct the source or the "
            f"mapping{_EXPECTED if of_rows else ''}"
        )
    return found


def _measure(contract: Contract, tally: Tally, rule: TableRule, days: int, past: Past | None) -> Measured | None:
    """The value of a table rule, or None when there is nothing to judge it by."""
    if days < rule.arguments.perDays or (rule.measures != "volume" and tally.raw < rule.arguments.fromRows):
        return None
    if rule.measures == "rowCount":
        value = tally.raw * rule.arguments.perDays / days if rule.arguments.perDays else float(tally.raw)
        return _measured(rule, value)
    if rule.measures in _BY_PAST:
        return _BY_PAST[rule.measures](contract, tally, rule, past) if past else None
    if not tally.raw:
        return None
    if rule.measures == "smallestClass":
        return _smallest_class(tally, rule)
    return _measured(rule, 100 * _share(tally, rule))


def _share(tally: Tally, rule: TableRule) -> float:
    if rule.measures == "duplicateValues":
        return tally.duplicates / tally.raw
    if rule.measures == "quarantined":
        return (tally.quarantined - tally.rejected) / tally.raw
    if rule.measures == "nullValues":
        return tally.nulls[rule.arguments.column] / max(tally.clean, 1)
    return 1 - tally.strangers[rule.name] / max(tally.clean, 1)


def _smallest_class(tally: Tally, rule: TableRule) -> Measured | None:
    classes = tally.classes.get(rule.arguments.column)
    if not classes:
        return None
    name, rows = min(classes.items(), key=lambda each: (each[1], each[0]))
    return _measured(rule, 100 * rows / classes.total(), f"{name!r} has {rows:,} of {classes.total():,} rows")


def _freshness(contract: Contract, tally: Tally, rule: TableRule, past: Past) -> Measured | None:
    """Hours from the newest event to the window's end; a table that never delivered has nothing to be late with."""
    del contract, tally
    newest = max((each.event_time_max for each in past.raw if each.event_time_max), default=None)
    if newest is None:
        return None
    return _measured(rule, (past.until - newest) / timedelta(hours=1), f"the newest event is of {newest.isoformat()}")


def _volume(contract: Contract, tally: Tally, rule: TableRule, past: Past) -> Measured | None:
    """The window's most unusual day, as a share of the median of the same weekday in the four weeks before it.

    A day without any row is a matter of freshness: shops close on holidays.
    """
    del contract, tally
    rows = {each.ds: each.rows for each in past.raw if each.rows and each.history}
    worst: Measured | None = None
    for day in past.days:
        before = [rows[at] for week in range(1, _WEEKS + 1) if (at := day - timedelta(weeks=week)) in rows]
        if day not in rows or len(before) < _WEEKS - 1 or median(before) < rule.arguments.fromRows:
            continue
        share = 100 * rows[day] / median(before)
        if worst is None or abs(math.log(share / 100)) > abs(math.log(worst.value / 100)):
            worst = _measured(rule, share, f"{day} has {rows[day]:,} rows, usual are {median(before):,.0f}")
    return worst


def _null_spike(contract: Contract, tally: Tally, rule: TableRule, past: Past) -> Measured | None:
    """The greatest rise of a column's share of nulls over the median of the partitions before."""
    earlier = [each for each in past.clean if each.rows and each.nulls is not None]
    if not earlier or not tally.clean:
        return None
    rises = {
        column.name: tally.nulls[column.name] / tally.clean
        - median((each.nulls or {}).get(column.name, 0) / each.rows for each in earlier)
        for column in contract.columns
    }
    name = max(rises, key=lambda each: rises[each])
    return _measured(rule, 100 * max(rises[name], 0.0), f"column {name}: {tally.nulls[name]:,} of {tally.clean:,} rows")


_BY_PAST: Mapping[str, Callable[[Contract, Tally, TableRule, Past], Measured | None]] = {
    "freshness": _freshness,
    "volume": _volume,
    "nullSpike": _null_spike,
}


def _measured(rule: TableRule, value: float, note: str = "") -> Measured:
    return Measured(rule, round(value, 4), rule.holds(value), note)


def _names(column: pa.ChunkedArray) -> Counter[str]:
    counter: Counter[str] = Counter()
    for found in column.value_counts().to_pylist():
        for name in filter(None, found["values"].split(",")):
            counter[name] += found["counts"]
    return counter


def alarms(found: Iterable[Measured]) -> tuple[str, ...]:
    """The table rules of severity warning that do not hold, in words."""
    return tuple(str(each) for each in found if not each.holds)
