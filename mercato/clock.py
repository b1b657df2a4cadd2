"""What time it is for the shop: real in production, shifted in the demo, frozen in tests."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mercato.errors import BadSetting
from mercato.settings import Settings

Clock = Callable[[], datetime]
"""Answers the present instant, UTC-aware."""


def real() -> datetime:
    """The machine's own time, UTC."""
    return datetime.now(UTC)


def frozen(at: datetime) -> Clock:
    """A clock that stands still at `at`."""
    if at.tzinfo is None:
        raise BadSetting(f"found the naive time {at}, need one with a zone")
    return lambda: at.astimezone(UTC)


def shifted(path: Path) -> Clock:
    """A clock that runs `offset` away from the machine's, kept in `path` by `start_shifted`."""
    try:
        offset = timedelta(seconds=json.loads(path.read_text())["offset_seconds"])
    except FileNotFoundError:
        raise BadSetting(f"no clock at {path}: run the demo once, or set MERCATO_CLOCK=real") from None
    return lambda: real() + offset


def check_shop(path: Path, shop: str) -> None:
    """Nothing, when the clock in `path` is of this shop, or there is none.

    Raises:
        BadSetting: it runs in another shop's time, and so do the events beside it.
    """
    owner = json.loads(path.read_text()).get("shop", shop) if path.exists() else shop
    if owner != shop:
        raise BadSetting(
            f"found the clock of the shop {owner} in {path}, need a home of its own for {shop}: set MERCATO_HOME"
        )


def start_shifted(path: Path, at: datetime, shop: str) -> Clock:
    """Start a shop's shifted clock at `at`, unless one already runs: it never goes back.

    Raises:
        BadSetting: the one that runs is another shop's.
    """
    check_shop(path, shop)
    if not path.exists():
        offset = (at - real()).total_seconds()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps({"offset_seconds": offset, "started_at": at.isoformat(), "shop": shop}))
        aside.replace(path)
    return shifted(path)


def clock(settings: Settings) -> Clock:
    """The clock that `MERCATO_CLOCK` names."""
    if settings.clock == "real":
        return real
    if settings.clock == "shifted":
        return shifted(settings.root / "clock.json")
    raise BadSetting(f"MERCATO_CLOCK is {settings.clock!r}, need 'real' or 'shifted'")
