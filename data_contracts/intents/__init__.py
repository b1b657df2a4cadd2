"""The label set of shoppers' messages: the shop-intents set, and how public sets fit onto its labels."""

from pathlib import Path

INTENTS = Path(__file__).parent
