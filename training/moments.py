"""Instants out of source columns: timestamps in a stated zone, and the shop's own weeks."""

from datetime import datetime, timedelta
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from data_contracts.shop import Shop
from data_contracts.tables import EventTime

UTC_TIME = dt.Timestamp(timezone="UTC", scale=6)
_ZONED = r":\d\d(\.\d+)?\s*[^\s\d.:]"
"""A time with something after it: an offset or the name of a zone."""


def _timezone(zone: str, local: datetime) -> datetime:  # type: ignore[empty-body]
    """The instant at which clocks in `zone` show `local` (DuckDB's ICU function)."""


_local_to_utc = ibis.udf.scalar.builtin(_timezone, name="timezone", signature=((dt.string, dt.Timestamp()), UTC_TIME))


def _try_strptime(text: str, form: str) -> datetime:  # type: ignore[empty-body]
    """`text` read by `form`, or null (DuckDB's function)."""


_strptime = ibis.udf.scalar.builtin(
    _try_strptime, name="try_strptime", signature=((dt.string, dt.string), dt.Timestamp())
)
_strptime_instant = ibis.udf.scalar.builtin(
    _try_strptime, name="try_strptime", signature=((dt.string, dt.string), UTC_TIME)
)


def _epoch_us(instant: datetime) -> int:  # type: ignore[empty-body]
    """Microseconds since 1970 (DuckDB's function)."""


microseconds = ibis.udf.scalar.builtin(_epoch_us, name="epoch_us", signature=((UTC_TIME,), dt.int64))


def _make_timestamptz(microseconds: int) -> datetime:  # type: ignore[empty-body]
    """The instant so long after 1970 (DuckDB's function)."""


_instant = ibis.udf.scalar.builtin(_make_timestamptz, name="make_timestamptz", signature=((dt.int64,), UTC_TIME))


def later(instant: Any, by: timedelta) -> Any:
    """A column of instants, each `by` later, null where one is infinite. An interval is added by the calendar: slow."""
    return _instant(microseconds(instant) + by // timedelta(microseconds=1))


def to_utc(local: Any, zone: str) -> Any:
    """A column of naive timestamps in `zone` as instants, UTC."""
    naive = local.cast("timestamp(6)")
    return naive.cast(UTC_TIME) if zone == "UTC" else _local_to_utc(zone, naive)


def timestamp(rows: Any, column: str, *, zone: str, form: str = "") -> Any:
    """A timestamp column, or text read by the strptime format `form`, as instants; unreadable text is null."""
    value = rows[column]
    if value.type().is_string():
        return _read(value, zone, form)
    if value.type().is_timestamp() and value.type().timezone:
        return value.cast(UTC_TIME)
    return to_utc(value, zone)


def _read(text: Any, zone: str, form: str) -> Any:
    """Text as instants; an offset or a zone in the text counts more than `zone`."""
    if "%z" in form:
        return _strptime_instant(text, form)
    if form:
        return to_utc(_strptime(text, form), zone)
    if zone == "UTC":  # as DuckDB reads it (`connect` sets its zone), offsets too
        return text.try_cast(UTC_TIME)
    local = to_utc(text.try_cast("timestamp(6)"), zone)
    return text.re_search(_ZONED).ifelse(text.try_cast(UTC_TIME), local)


def week_start(rows: Any, column: str, shop: Shop) -> Any:
    """The first local midnight of the shop week whose number `column` holds, as instants."""
    first = datetime.combine(shop.calendar.week_one, datetime.min.time())
    number = rows[column]
    number = number.try_cast("int64") if number.type().is_string() else number
    days = ((number - 1) * 7).cast("int64")
    return to_utc(ibis.literal(first, "timestamp(6)") + days.as_interval("D"), shop.zone)


def event_time(rows: Any, shop: Shop, rule: EventTime) -> Any:
    """When each row happened, by the shop's rule for its table."""
    if rule.constant is not None:
        return ibis.literal(rule.constant, UTC_TIME)
    if rule.week:
        return week_start(rows, rule.week, shop)
    return timestamp(rows, rule.timestamp, zone=rule.zone, form=rule.format)
