"""Which column of an unknown file could be which column of a contract, by name and type."""

import re
from dataclasses import dataclass

from data_contracts.contract import Contract, contract_names, load_contract
from data_contracts.shop import own_tables
from training.look import Look, Profile

_ID = r"(_?(id|no|nr|num|number|key|code|nummer))?"
_ROLES: dict[str, tuple[str, ...]] = {
    "customer_key": (rf"(loyalty_|card_)?(customer|client|household|user|member|shopper|buyer|kunden?|card){_ID}",),
    "product_id": (rf"(product|item|sku|stock|article|artikel|material|plu|asin|ean|upc){_ID}",),
    "basket_id": (rf"(basket|invoice|order|transaction|receipt|ticket|bill|bon|beleg){_ID}",),
    "store_id": (rf"(store|shop|branch|outlet|filiale|pos){_ID}",),
    "quantity": (r"(product_|item_|sales_)?(quantity|qty|units|pieces|menge|anzahl)(_sold)?",),
    "sales_minor": (r"(line_|net_|gross_|total_)?(sales|amount|revenue|total|umsatz|betrag)(_(value|amount|price))?",),
    "unit_price": (r"(unit_|item_|product_|einzel)?(price|preis)",),
    "retail_discount_minor": (r"(retail_|loyalty_|total_)?(disc|discount|rabatt)(_(value|amount))?",),
    "coupon_discount_minor": (r"coupon_(disc|discount)(_(value|amount))?",),
    "coupon_match_discount_minor": (r"coupon_match_(disc|discount)(_(value|amount))?",),
    "currency": (r"currency(_code)?|waehrung",),
    "name": (r"(product_|item_|article_)?(name|title|description|bezeichnung)",),
    "category": (r"(product_)?(category|commodity)(_(name|desc))?|warengruppe",),
    "product_type": (r"(product_)?(sub_?category|sub_?commodity|type)(_(name|desc))?",),
    "department": (r"(product_)?(department|abteilung)(_name)?",),
    "brand": (r"(product_)?(brand|marke)(_name)?",),
    "package_size": (r"(package|pack|product)?_?(size|weight)(_of_product)?",),
    "manufacturer_id": (rf"(manufacturer|supplier|vendor|hersteller|lieferant){_ID}",),
    "campaign_id": (rf"campaign{_ID}",),
    "coupon_upc": (r"coupon(_(upc|id|code|no))?",),
    "starts_at": (r"(campaign_)?(start|starts|begin|valid_from)(_(date|day|at|time))?",),
    "ends_at": (r"(campaign_)?(end|ends|stop|valid_to|valid_until)(_(date|day|at|time))?",),
    "display_location": (r"display(_(location|loc))?",),
    "mailer_location": (r"mailer(_(location|loc))?",),
    "household_composition": (r"(household_)?comp(osition)?(_desc)?|hh_comp_desc|household_comp",),
    "kids_count": (r"(kids?|children|kid_category)(_(count|desc))?",),
}
WATERMARK = r"(row_)?(updated|modified|loaded|inserted|ingested|changed)(_(at|on|date|time|timestamp))?"
_AMOUNTS = {
    "sales_minor",
    "unit_price",
    "retail_discount_minor",
    "coupon_discount_minor",
    "coupon_match_discount_minor",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A file and the contract that it seems to fulfil."""

    look: Look
    contract: Contract
    columns: dict[str, str]
    """Contract column (or `unit_price`) -> source column."""
    event: tuple[str, ...]
    """Columns that could say when it happened, the likeliest first."""
    watermark: str = ""


def plain_name(name: str) -> str:
    """`UnitPrice`, `unit price` and `UNIT-PRICE` as unit_price."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    words = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", words)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def fits(look: Look) -> list[Fit]:
    """The contracts that a file could fulfil, the best first; one needs its whole key, and something beside it."""
    found = []
    for name in contract_names():
        if name in own_tables():
            continue
        contract = load_contract(name)
        columns = _matches(look, contract)
        key = [each for each in contract.key if each != "event_time"]
        beside = set(columns) - set(contract.key)
        if all(each in columns for each in key) and (beside or len(key) > 1) and _plausible(contract, columns):
            times, mark = _times(look, set(columns.values()))
            found.append(Fit(look, contract, columns, times, mark))
    return sorted(found, key=lambda each: -len(each.columns))


def _plausible(contract: Contract, columns: dict[str, str]) -> bool:
    """Lines of bills have amounts; what has a basket is no list of products or customers."""
    if contract.name == "transactions":
        return bool(columns.keys() & {"quantity", "sales_minor", "unit_price"})
    return True


def _matches(look: Look, contract: Contract) -> dict[str, str]:
    wanted = [each.name for each in contract.columns if each.name not in {"event_time", "known_at", "valid_from"}]
    wanted += ["unit_price"] if "sales_minor" in wanted else []
    found: dict[str, str] = {}
    for role in wanted:
        patterns = _ROLES.get(role, (rf"{role}(_(desc|code|range|group))?",))
        for profile in look.columns:
            if profile.name in found.values() or not _typed(role, profile):
                continue
            if any(re.fullmatch(each, plain_name(profile.name)) for each in patterns):
                found[role] = profile.name
                break
    if "sales_minor" in found or "quantity" not in found:
        found.pop("unit_price", None)
    return found


def _typed(role: str, profile: Profile) -> bool:
    if role in _AMOUNTS or role == "quantity":
        return profile.kind in {"integer", "number"}
    if role in {"starts_at", "ends_at"}:
        return profile.kind == "timestamp"
    return profile.kind != "timestamp"


def _times(look: Look, taken: set[str]) -> tuple[tuple[str, ...], str]:
    """(columns that could be the event's time, the watermark's)."""
    times = [each for each in look.columns if each.kind == "timestamp"]
    mark = next((each.name for each in times if re.fullmatch(WATERMARK, plain_name(each.name))), "")
    open_times = [each.name for each in times if each.name != mark and each.name not in taken]
    return tuple(open_times or [each.name for each in times if each.name != mark]), mark
