"""Where benches keep what takes long to make."""

from pathlib import Path

from mercato.settings import Settings
from training.provenance import code_digest


def kept_in(settings: Settings) -> Path:
    """A folder for what this code makes; other code makes it anew, lest its figures are told as this code's."""
    return settings.root / "bench" / code_digest()
