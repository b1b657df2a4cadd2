"""Time has one home: real, shifted, or frozen, and never going back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mercato import clock
from mercato.commands.support import instant
from mercato.errors import BadSetting
from mercato.settings import Settings

DEMO = datetime(2017, 12, 4, 5, tzinfo=UTC)
SHOP = "complete_journey"


def test_a_frozen_clock_stands_still_in_utc() -> None:
    """It answers the same instant every time, and refuses one without a zone."""
    now = clock.frozen(datetime.fromisoformat("2017-12-04T00:00:00-05:00"))
    assert now() == now() == DEMO
    assert now().tzinfo is UTC
    with pytest.raises(BadSetting, match="naive"):
        clock.frozen(datetime(2017, 12, 4))  # noqa: DTZ001


def test_a_shifted_clock_starts_once_and_keeps_its_offset(tmp_path: Path) -> None:
    """Starting it again at an earlier time changes nothing: it never goes back."""
    path = tmp_path / "clock.json"
    first = clock.start_shifted(path, DEMO, SHOP)()
    again = clock.start_shifted(path, DEMO - timedelta(days=30), SHOP)()
    assert DEMO <= first <= again < DEMO + timedelta(minutes=5)
    assert [each.name for each in tmp_path.iterdir()] == ["clock.json"]


def test_a_setting_chooses_the_clock(tmp_path: Path) -> None:
    """`real` and `shifted` are known; a shifted clock that was never started and any other word are refused."""
    settings = Settings(home=tmp_path, clock="shifted")
    with pytest.raises(BadSetting, match="run the demo once"):
        clock.clock(settings)
    clock.start_shifted(tmp_path / "clock.json", DEMO, SHOP)
    assert clock.clock(settings)() >= DEMO
    assert clock.clock(Settings(home=tmp_path)) is clock.real
    with pytest.raises(BadSetting, match="'sideways'"):
        clock.clock(Settings(home=tmp_path, clock="sideways"))


def test_two_shops_do_not_share_a_clock(tmp_path: Path) -> None:
    """The second one would be served in the first one's time: it is refused, and told what to do."""
    clock.start_shifted(tmp_path / "clock.json", DEMO, SHOP)
    with pytest.raises(BadSetting, match="need a home of its own for chorus: set MERCATO_HOME"):
        clock.start_shifted(tmp_path / "clock.json", DEMO, "chorus")


def test_an_instant_is_one_however_it_is_written() -> None:
    """Ids and orders are made of what is parsed, so every zone is told in UTC."""
    written = ["2017-03-08T05:00Z", "2017-03-08T00:00-05:00", "2017-03-08T05:00", "2017-03-08T10:30+05:30"]
    assert {instant(each).isoformat() for each in written} == {"2017-03-08T05:00:00+00:00"}
    assert instant("2017-03-08").tzinfo is UTC
