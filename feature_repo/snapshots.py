"""Feature snapshots at T: Ibis expressions over tables that were already cut by `as_of(T, T)`.

Every function takes Ibis tables and a zone-aware T and returns one Ibis table with the columns
of its constant below, plus `event_timestamp` = T, in a total ORDER BY. DuckDB or Spark may run
them: counts and money are integers, and decayed counts are sums of integer micro-purchases
(round(10^6 * 2^(-age/half-life))), so that no order of addition can change a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import ibis
import ibis.expr.types as ir

DAY: Final = 86_400
"""Seconds in a day."""
MICRO: Final = 1_000_000
"""Micro-purchases in one purchase made at T."""
UNKNOWN_CATEGORY: Final = "OTHER"
"""Stands for a missing category, so that every product has one."""

SALES_COLUMNS: Final = (
    "customer_key", "product_id", "basket_id", "event_time", "quantity", "sales_minor", "retail_discount_minor"
)  # fmt: skip
"""Of clean/transactions, what the views read."""

HISTORY_COLUMNS: Final[dict[str, str]] = {
    "snapshot_at": "Int64",
    "product_ids": "Array(String)",
    "n_purchases": "Array(Int64)",
    "n_30d": "Array(Int64)",
    "n_60d": "Array(Int64)",
    "decayed_90d": "Array(Float32)",
    "decayed_30d": "Array(Float32)",
    "first_at": "Array(Int64)",
    "last_at": "Array(Int64)",
    "interval_days": "Array(Float32)",
}
"""customer_history: feature -> Feast type. One array position per product, ordered by product_id."""

PROFILE_COLUMNS: Final[dict[str, str]] = {
    "n_baskets": "Int64",
    "n_baskets_60d": "Int64",
    "n_products": "Int64",
    "first_basket_at": "Int64",
    "last_basket_at": "Int64",
    "recency_days": "Float32",
    "baskets_per_week": "Float32",
    "spend_minor": "Int64",
    "basket_minor": "Int64",
    "categories": "Array(String)",
    "category_affinity": "Array(Float32)",
    "category_n": "Array(Int64)",
    "category_last_at": "Array(Int64)",
}
"""customer_profile: feature -> Feast type. RFM, and category affinity with a 90-day half-life."""

PRODUCT_COLUMNS: Final[dict[str, str]] = {
    "n_7d": "Int64",
    "n_28d": "Int64",
    "n_91d": "Int64",
    "n_364d": "Int64",
    "n_households": "Int64",
    "decayed_14d": "Float32",
    "trend": "Float32",
    "repeat_share": "Float32",
    "repeat_interval_days": "Float32",
    "first_sold_at": "Int64",
    "price_minor": "Int64",
    "price_position": "Float32",
    "discount_share": "Float32",
    "display_share": "Float32",
    "mailer_share": "Float32",
    "on_promotion": "Int64",
}
"""product_stats: feature -> Feast type. Popularity, trend, repurchase, price and promotion of one product."""


def epoch(at: datetime) -> int:
    """Seconds since 1970 of a zone-aware time."""
    if at.tzinfo is None:
        raise ValueError(f"found a time without zone ({at.isoformat()}), needed one with: pass UTC")
    return int(at.timestamp())


def _epoch(column: Any) -> Any:
    """Seconds since 1970 of a timestamp column, int64."""
    return column.epoch_seconds().cast("int64")


def _micro(age_seconds: Any, half_life_days: float) -> Any:
    """Integer micro-purchases left of one purchase of that age (seconds, >= 0)."""
    power = ibis.literal(2.0).pow(age_seconds / float(-DAY * half_life_days))
    return (power * MICRO).round().cast("int64")


def _purchases(transactions: ir.Table, at: datetime) -> ir.Table:
    """One row per customer, product and basket before T: when, how old (s)."""
    moment = epoch(at)
    bought = transactions.group_by("customer_key", "product_id", "basket_id").agg(
        bought_at=_epoch(transactions.event_time.max())
    )
    return bought.mutate(age=moment - bought.bought_at)


def _per_product(transactions: ir.Table, at: datetime) -> ir.Table:
    """One row per customer and product: the scalars behind HISTORY_COLUMNS."""
    p = _purchases(transactions, at)
    p = p.mutate(micro_90=_micro(p.age, 90.0), micro_30=_micro(p.age, 30.0))
    g = p.group_by("customer_key", "product_id").agg(
        n_purchases=p.count(),
        n_30d=(p.age <= 30 * DAY).cast("int64").sum(),
        n_60d=(p.age <= 60 * DAY).cast("int64").sum(),
        micro_90=p.micro_90.sum(),
        micro_30=p.micro_30.sum(),
        first_at=p.bought_at.min(),
        last_at=p.bought_at.max(),
    )
    gaps = ibis.greatest(g.n_purchases - 1, 1)
    return g.mutate(
        decayed_90d=(g.micro_90 / float(MICRO)).cast("float32"),
        decayed_30d=(g.micro_30 / float(MICRO)).cast("float32"),
        interval_days=((g.last_at - g.first_at) / (gaps * float(DAY))).cast("float32"),
    )


def customer_history(transactions: ir.Table, at: datetime) -> ir.Table:
    """What each customer bought before T: one row per customer_key, arrays ordered by product_id.

    Args:
        transactions: clean/transactions as of T; counts are baskets, not units.
        at: T, zone-aware.

    `interval_days` is the mean time between purchases, 0 where a product was bought once.
    """
    g = _per_product(transactions.filter(transactions.customer_key.notnull()), at)
    fields = {name: g[name] for name in HISTORY_COLUMNS if name not in ("snapshot_at", "product_ids")}
    rows = _collected(g, {"product_ids": g.product_id, **fields}, g.product_id)
    return _finish(rows.mutate(snapshot_at=ibis.literal(epoch(at), "int64")), HISTORY_COLUMNS, "customer_key", at)


def customer_profile(transactions: ir.Table, products: ir.Table, at: datetime) -> ir.Table:
    """Recency, frequency, monetary value and decayed category affinity: one row per customer_key.

    `baskets_per_week` counts from the first basket (at least one week); arrays are ordered by category.
    """
    moment = epoch(at)
    transactions = transactions.filter(transactions.customer_key.notnull())
    rfm = _rfm(transactions, moment)
    named = products.select("product_id", category=products.category.fill_null(UNKNOWN_CATEGORY))
    p = _purchases(transactions, at)
    p = p.left_join(named, "product_id").select(
        "customer_key", "product_id", "bought_at", "age", category=named.category.fill_null(UNKNOWN_CATEGORY)
    )
    p = p.mutate(micro=_micro(p.age, 90.0))
    per_category = p.group_by("customer_key", "category").agg(
        micro=p.micro.sum(), category_n=p.count(), category_last_at=p.bought_at.max()
    )
    affinity = (per_category.micro / float(MICRO)).cast("float32")
    c = per_category.mutate(category_affinity=affinity)
    names = ("category_affinity", "category_n", "category_last_at")
    arrays = _collected(c, {"categories": c.category, **{name: c[name] for name in names}}, c.category)
    joined = rfm.inner_join(arrays, "customer_key")
    return _finish(joined, PROFILE_COLUMNS, "customer_key", at)


def _collected(table: ir.Table, fields: dict[str, Any], order: Any) -> ir.Table:
    """One row per customer_key with one array per field, all in the same order.

    The fields are collected once, as structs: an ordered collect per field sorts each group once per field.
    """
    rows = table.group_by("customer_key").agg(record=ibis.struct(fields).collect(order_by=order))
    return rows.select("customer_key", **{name: rows.record.map(_field(name)) for name in fields})


def _field(name: str) -> Callable[[Any], Any]:
    """Takes one field out of a struct."""
    return lambda record: record[name]


def _rfm(transactions: ir.Table, moment: int) -> ir.Table:
    """One row per customer: baskets, products, spend (minor units) and their derived rates."""
    t = transactions.mutate(bought_at=_epoch(transactions.event_time))
    recent = (moment - t.bought_at) <= 60 * DAY
    g = t.group_by("customer_key").agg(
        n_baskets=t.basket_id.nunique(),
        n_baskets_60d=t.basket_id.nunique(where=recent),
        n_products=t.product_id.nunique(),
        first_basket_at=t.bought_at.min(),
        last_basket_at=t.bought_at.max(),
        spend_minor=t.sales_minor.sum().cast("int64"),
    )
    weeks = ibis.greatest((moment - g.first_basket_at) / float(7 * DAY), 1.0)
    return g.mutate(
        recency_days=((moment - g.last_basket_at) / float(DAY)).cast("float32"),
        baskets_per_week=(g.n_baskets / weeks).cast("float32"),
        basket_minor=(g.spend_minor // g.n_baskets).cast("int64"),
    )


def product_stats(transactions: ir.Table, products: ir.Table, promotions: ir.Table, at: datetime) -> ir.Table:
    """Popularity, repurchase, price and promotion: one row per product in `products`, sold or not.

    Counts are baskets in the days before T. `trend` is the log of the last week against the mean of four.
    `price_minor` is what one unit cost on average over 91 days (all time where none was sold in them, 0 where
    never). Promotion columns are those of the last shop week that began before T, as a share of its stores.
    """
    sales = _sales(transactions, at)
    promo = _promotion(promotions)
    base = products.select("product_id", category=products.category.fill_null(UNKNOWN_CATEGORY))
    joined = base.left_join(sales, "product_id").drop("product_id_right")
    joined = joined.left_join(promo, "product_id").drop("product_id_right")
    counts = ("n_7d", "n_28d", "n_91d", "n_364d", "n_households", "first_sold_at", "price_minor")
    shares = ("decayed_14d", "repeat_share", "repeat_interval_days", "discount_share", "display_share", "mailer_share")
    filled = joined.mutate(
        **{c: joined[c].fill_null(0).cast("int64") for c in counts},
        **{c: joined[c].fill_null(0.0).cast("float32") for c in shares},
    )
    position = ibis.percent_rank().over(group_by="category", order_by=["price_minor"])
    priced = filled.filter(filled.price_minor > 0).select("product_id", price_position=position.cast("float32"))
    out = filled.left_join(priced, "product_id").drop("product_id_right")
    out = out.mutate(
        price_position=out.price_position.fill_null(0.5).cast("float32"),
        trend=((out.n_7d * 4.0 + 1.0) / (out.n_28d + 1.0)).ln().cast("float32"),
        on_promotion=((out.display_share > 0) | (out.mailer_share > 0)).cast("int64"),
    )
    return _finish(out, PRODUCT_COLUMNS, "product_id", at)


def _sales(transactions: ir.Table, at: datetime) -> ir.Table:
    """One row per sold product: windows of popularity, repurchase and unit price."""
    moment = epoch(at)
    p = _purchases(transactions, at)
    p = p.mutate(micro=_micro(p.age, 14.0))
    windows = {f"n_{d}d": (p.age <= d * DAY).cast("int64").sum() for d in (7, 28, 91, 364)}
    popular = p.group_by("product_id").agg(**windows, micro=p.micro.sum(), first_sold_at=p.bought_at.min())
    c = _per_product(transactions.filter(transactions.customer_key.notnull()), at)
    repeat = c.group_by("product_id").agg(
        n_households=c.count(),
        repeaters=(c.n_purchases > 1).cast("int64").sum(),
        span=(c.last_at - c.first_at).sum(),
        gaps=(c.n_purchases - 1).sum(),
    )
    t = transactions.mutate(age=moment - _epoch(transactions.event_time))
    recent, month = t.age <= 91 * DAY, t.age <= 28 * DAY
    money = t.group_by("product_id").agg(
        paid=t.sales_minor.sum(),
        units=t.quantity.sum(),
        paid_91=t.sales_minor.sum(where=recent),
        units_91=t.quantity.sum(where=recent),
        paid_28=t.sales_minor.sum(where=month),
        off_28=t.retail_discount_minor.sum(where=month),
    )
    out = popular.left_join(repeat, "product_id").drop("product_id_right").inner_join(money, "product_id")
    out = out.mutate(**{name: out[name].fill_null(0) for name in ("n_households", "repeaters", "span", "gaps")})
    use_recent = out.units_91.fill_null(0) > 0
    paid = ibis.ifelse(use_recent, out.paid_91, out.paid)
    units = ibis.greatest(ibis.ifelse(use_recent, out.units_91, out.units), 1)
    listed = ibis.greatest(out.paid_28.fill_null(0) + out.off_28.fill_null(0), 1)
    return out.mutate(
        decayed_14d=out.micro / float(MICRO),
        repeat_share=out.repeaters / ibis.greatest(out.n_households, 1).cast("float64"),
        repeat_interval_days=out.span / (ibis.greatest(out.gaps, 1) * float(DAY)),
        price_minor=(paid / units.cast("float64")).round().cast("int64"),
        discount_share=out.off_28.fill_null(0) / listed.cast("float64"),
    )


def _promotion(promotions: ir.Table) -> ir.Table:
    """One row per product on display or in the mailer in the last week begun: shares of that week's stores."""
    week = promotions.filter(promotions.event_time == promotions.event_time.max().as_scalar())
    stores = week.store_id.nunique().as_scalar()
    shown = week.display_location.fill_null("0") != "0"
    mailed = week.mailer_location.fill_null("0") != "0"
    g = week.group_by("product_id").agg(
        on_display=week.store_id.nunique(where=shown), in_mailer=week.store_id.nunique(where=mailed)
    )
    total = ibis.greatest(stores, 1).cast("float64")
    return g.mutate(display_share=g.on_display / total, mailer_share=g.in_mailer / total)


def _finish(table: ir.Table, columns: dict[str, str], key: str, at: datetime) -> ir.Table:
    """The declared columns only, stamped with T, in key order."""
    stamp = ibis.literal(epoch(at), "int64").as_timestamp("s").cast(ibis.dtype("timestamp('UTC', 6)"))
    cast = {name: table[name].cast(_ibis_type(kind)) for name, kind in columns.items()}
    return table.select(key, **cast).mutate(event_timestamp=stamp).order_by(key)


def _ibis_type(feast_type: str) -> str:
    """The Ibis spelling of a Feast type: "Array(Float32)" -> "array<float32>"."""
    if feast_type.startswith("Array("):
        return f"array<{_ibis_type(feast_type[6:-1])}>"
    return {"String": "string", "Int64": "int64", "Float32": "float32"}[feast_type]
