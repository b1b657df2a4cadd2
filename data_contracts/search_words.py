"""What a shop's search knows beside its catalogue: synonyms, abbreviations and small vocabularies, as JSON files.

`data_contracts/search/<shop>/<file>.json` adds to `data_contracts/search/defaults/<file>.json`; what both say of one
word is the shop's.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import BadShop
from mercato.paths import canonical_json

FOLDER = Path(__file__).parent / "search"
DEFAULTS = "defaults"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Synonyms(_Part):
    """`synonyms.json`: words that a shopper may say for one another."""

    boost: float = Field(default=0.8, gt=0, le=1)
    """Weight of a synonym's score; the word as written has 1.0."""
    same: list[list[str]] = []
    """Groups of words or phrases; each stands for the others."""
    means: dict[str, list[str]] = {}
    """Word -> what it stands for, one way: other languages, spellings."""

    def with_shop(self, shop: Self) -> Self:
        """These and the shop's."""
        boost = shop.boost if "boost" in shop.model_fields_set else self.boost
        return self.model_copy(
            update={"boost": boost, "same": [*self.same, *shop.same], "means": {**self.means, **shop.means}}
        )


class Vocabulary(_Part):
    """`vocabulary.json`: small closed sets of words."""

    fillers: list[str] = []
    """Words around a wish that name no product."""
    buying: list[str] = []
    """Words of somebody about to buy."""
    asking: list[str] = []
    """Words of somebody who wants to know."""
    colours: list[str] = []
    function_words: list[str] = []
    """Words that no misspelled word is corrected to."""

    def with_shop(self, shop: Self) -> Self:
        """These and the shop's."""
        return self.model_copy(
            update={name: [*getattr(self, name), *getattr(shop, name)] for name in type(self).model_fields}
        )


class SearchWords(_Part):
    """All of it, for one shop."""

    synonyms: Synonyms = Synonyms()
    abbreviations: dict[str, str] = {}
    """`abbreviations.json`: short form, as labels print it -> long form."""
    vocabulary: Vocabulary = Vocabulary()

    def sha256(self) -> str:
        """Hash of what it says."""
        return hashlib.sha256(canonical_json(self.model_dump())).hexdigest()


def load_search_words(shop: str, folder: Path = FOLDER) -> SearchWords:
    """The defaults and what `shop` adds; BadShop names the file and the key that is wrong."""
    general, own = (_read(folder / name) for name in (DEFAULTS, shop))
    return SearchWords(
        synonyms=general.synonyms.with_shop(own.synonyms),
        abbreviations={**general.abbreviations, **own.abbreviations},
        vocabulary=general.vocabulary.with_shop(own.vocabulary),
    )


def _read(folder: Path) -> SearchWords:
    said: dict[str, Any] = {}
    for name in SearchWords.model_fields:
        path = folder / f"{name}.json"
        if path.exists():
            try:
                said[name] = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise BadShop(f"{folder.name}/{path.name} is not JSON: {error}") from error
    try:
        return SearchWords.model_validate(said)
    except ValidationError as error:
        wrong = error.errors()[0]
        file, *key = (str(each) for each in wrong["loc"])
        raise BadShop(f"{folder.name}/{file}.json: {'.'.join(key)}: {wrong['msg']}") from error
