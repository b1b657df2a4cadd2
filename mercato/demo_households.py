"""The households that the demo's page offers, with what they bought after the models' last instant."""

from datetime import datetime

from data_contracts.lake import as_of, connect
from data_contracts.partitions import manifests, part_path
from data_contracts.shop import Shop
from data_contracts.tables import SourceType
from mercato import paths
from mercato.demo_state import TRUTH
from mercato.identity import identity
from mercato.settings import Settings

OFFERED = 200


def write_households(settings: Settings, shop: Shop, at: datetime) -> int:
    """How many households `home/demo/households.json` offers: from few baskets to many, evenly spread.

    `later` is the held-out truth: what the household bought in the four weeks after `at`, which nothing has seen.
    Only the demo may write the shop's own ids next to purchases: they stay on this machine.
    """
    import json

    lake = paths.lake(settings)
    before = as_of(lake, "transactions", event_before=at, known_before=at)
    baskets = before.group_by("customer_key").agg(n=before.basket_id.nunique(), first=before.event_time.min()).execute()
    later = as_of(lake, "transactions", event_before=at + TRUTH, known_before=at + 2 * TRUTH, since=at)
    bought = later.select("customer_key", "product_id").distinct().order_by("customer_key", "product_id").execute()
    truth = {str(key): group.tolist() for key, group in bought.groupby("customer_key")["product_id"]}
    ids = _ids(settings, shop)
    known = sorted(
        (int(n), ids[key], key, first)
        for key, n, first in baskets.itertuples(index=False)
        if key in ids and key in truth
    )
    chosen = [known[i * len(known) // OFFERED] for i in range(OFFERED)] if len(known) > OFFERED else known
    listed = [
        {
            "customer_id": customer_id,
            "n_baskets": n,
            "label": f"household {customer_id}, {n} baskets since {first:%B %Y}",
            "later": truth[key],
        }
        for n, customer_id, key, first in chosen
    ]
    path = settings.root / "demo" / "households.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listed))
    return len(listed)


def _ids(settings: Settings, shop: Shop) -> dict[str, str]:
    """customer_key -> the shop's own id, for every customer in raw/ (the map itself cannot be read backwards)."""
    column = shop.table("transactions").mapping["customer_key"].identity
    people = identity(settings)
    found = _raw_ids(settings, column, shop.table("transactions").columns[column])
    return {key: each for each in found if (key := people.find(shop.name, each))}


def _raw_ids(settings: Settings, column: str, stated: SourceType) -> list[str]:
    from training.mapping import customer_ids

    lake = paths.lake(settings)
    raw = [part_path(lake, each) for each in manifests(lake, "raw", "transactions")]
    return customer_ids(connect(), raw, column, stated)
