"""Trending follows what shoppers do: events, then the five-minute job, then the gateway's next look."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from mercato.settings import Settings
from mercato.stores.events import EventLog, EventRow, microseconds
from serving import trends
from serving.gateway import Gateway
from tests.serving.conftest import client_of, wait_ready
from training.popularity import update


def test_a_product_that_shoppers_turn_to_leads_within_one_look(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events lift a product over best sellers, in its category and over all; a broken store leaves the last scores."""
    monkeypatch.setattr(trends, "REFRESH_SECONDS", 0.0)
    settings = Settings(home=home)
    gateway = Gateway.open(settings)
    try:
        wait_ready(gateway)
        client = client_of(gateway)
        assert "mercato_popularity_age_seconds NaN" in client.get("/metrics").text
        before = client.get("/v1/trending", params={"category": "frozen pizza", "n": 5}).json()["results"]
        wanted = before[-1]["product_id"]
        now = gateway.now()
        log = EventLog(settings.events(), lambda: now)
        at = microseconds(now)
        nothing = (None, None, None, None)
        rows = [EventRow(f"t{i}", "purchase", None, "s", wanted, *nothing, at, "real", None, None) for i in range(200)]
        log.append(rows).result(10)
        log.close()
        assert update(settings, now + timedelta(minutes=5)).counted == 200
        age = re.search(r"^mercato_popularity_age_seconds (\S+)$", client.get("/metrics").text, re.MULTILINE)
        assert age
        assert -300 <= float(age[1]) < 0  # it counted up to five minutes from now
        after = client.get("/v1/trending", params={"category": "frozen pizza", "n": 5}).json()["results"]
        assert after[0]["product_id"] == wanted
        assert client.get("/v1/trending", params={"n": 3}).json()["results"][0]["product_id"] == wanted
        (home / "popularity.db").write_bytes(b"no database at all" * 400)
        again = client.get("/v1/trending", params={"category": "frozen pizza", "n": 5})
        assert (again.status_code, again.json()["results"][0]["product_id"]) == (200, wanted)
    finally:
        gateway.close()
