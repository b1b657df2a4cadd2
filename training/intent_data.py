"""Labelled messages for the intent model: the shop-intents set, what annotators labelled, and public sets that fit."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd
import yaml
from pydantic import BaseModel, Field

from data_contracts.intents import INTENTS, load_labels
from feature_repo.message_text import tidy
from feature_repo.text import normalise_query
from mercato.paths import Lake
from training.datasets.by_group import place
from training.datasets.versions import of_annotations, versions
from training.errors import BadConfig, NotEnoughData
from training.near_duplicates import crossing

COLUMNS: Final = ("text", "intent", "language", "origin")
"""Of every frame of messages; `origin` is the set that a row comes from, public ones as `public:NAME`."""
SHOP_SET: Final = "shop_intents"
PUBLIC: Final = "public:"
FEWEST: Final = 2
"""Training rows of a label."""


class PublicSet(BaseModel, frozen=True, extra="forbid"):
    """One public set and how its classes map onto our labels (`data_contracts/intents/public_sets.yaml`)."""

    file: str
    """Below the folder of public sets."""
    licence: str
    language: str
    text: str = "text"
    """Column of the message."""
    class_: str = Field("", alias="class")
    """Column of its class; none: every row is of the class ""."""
    separator: str = ""
    splits: tuple[str, ...] = ()
    """Of a JSON file: the lists of [text, class] that are read."""
    most_per_class: int
    """So many rows of a class at most, the ones whose text hashes lowest: a public set must not drown the shop's."""
    labels: dict[str, tuple[str, ...]]
    """Our label -> their classes."""


@dataclass(frozen=True, slots=True)
class Messages:
    """What a run learns from and is judged by; no text is on two sides.

    Attributes:
        train, validation, test: frames of COLUMNS. Validation and test hold no public row.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label of the training rows, sorted."""
        return tuple(sorted(self.train["intent"].unique()))

    def digest(self) -> str:
        """SHA-256 over every row."""
        found = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            found.update(part[list(COLUMNS)].to_csv(index=False).encode())
        return found.hexdigest()


def read_alike(text: str) -> str:
    """What two messages share that count as one: case, punctuation and spaces aside."""
    return normalise_query(text) or tidy(text)


def shop_intents(split: str) -> pd.DataFrame:
    """The rows of `train` or `test` of the shop-intents set."""
    rows = pd.read_csv(INTENTS / f"{SHOP_SET}_{split}.csv", keep_default_na=False)
    return rows.assign(origin=SHOP_SET)[list(COLUMNS)]


def annotated(lake: Lake, until: datetime) -> dict[str, pd.DataFrame]:
    """Split -> labelled rows of `intent_examples` that end at `until` or before; empty without any.

    Of the newest version made of annotations and the newest made of a file; where both have a message, the annotators'
    label counts. Rows that say a label set of another major version mean something else, and are left out.
    """
    major = load_labels().major
    fitting = [each for each in versions(lake, "intent_examples") if each.until <= until]
    newest = {of_annotations(each): each for each in fitting}
    found: list[pd.DataFrame] = []
    for each in (newest[kind] for kind in (True, False) if kind in newest):
        rows = pd.read_parquet(lake.local(lake.path("datasets", each.name, each.version, "rows.parquet")))
        meant = rows["label_set_version"].fillna("").map(lambda version: version.partition(".")[0])
        same = meant.isin(["", str(major)])
        found.append(_without(rows[same].assign(origin=rows["label_source"]), *found))
    if not found:
        return {}
    return {str(split): part[list(COLUMNS)] for split, part in pd.concat(found, ignore_index=True).groupby("split")}


def public_rows(folder: Path) -> pd.DataFrame:
    """The rows of every public set in `folder` that fit our labels, origin `public:NAME`; BadConfig without one."""
    if not folder.is_dir():
        raise BadConfig(f"MERCATO_PUBLIC_SETS is {folder}, which is no folder; name the one that holds the public sets")
    found = [
        _mapped(name, each, folder / each.file) for name, each in public_sets().items() if (folder / each.file).exists()
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(COLUMNS))


def public_sets() -> dict[str, PublicSet]:
    """Name -> mapping of each public set."""
    stated = yaml.safe_load((INTENTS / "public_sets.yaml").read_text())
    return {name: PublicSet.model_validate(each) for name, each in stated.items()}


def _mapped(name: str, each: PublicSet, path: Path) -> pd.DataFrame:
    rows = _read(each, path)
    ours = {theirs: label for label, classes in each.labels.items() for theirs in classes}
    missing = sorted(set(ours) - set(rows["class"]))
    if missing:
        raise BadConfig(
            f"public_sets.yaml maps the classes {missing} of {name}, which {path.name} lacks; correct the map"
        )
    rows = rows[rows["class"].isin(ours)].drop_duplicates("text")
    order = rows["text"].map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    rows = rows.assign(order=order).sort_values("order").groupby("class").head(each.most_per_class)
    rows = rows.assign(intent=rows["class"].map(ours), language=each.language, origin=PUBLIC + name)
    return rows[list(COLUMNS)].reset_index(drop=True)


def _read(each: PublicSet, path: Path) -> pd.DataFrame:
    """Columns `text` and `class`, as the file has them."""
    if path.suffix == ".json":
        lists = json.loads(path.read_text())
        return pd.DataFrame([pair for split in each.splits for pair in lists[split]], columns=["text", "class"])
    separator = each.separator or ("\t" if path.suffix == ".tsv" else ",")
    rows = pd.read_csv(path, sep=separator, keep_default_na=False, dtype=str)
    classes = rows[each.class_] if each.class_ else ""
    return pd.DataFrame({"text": rows[each.text].str.strip(), "class": classes})


def gather(labelled: dict[str, pd.DataFrame], public: pd.DataFrame, *, validation_share: float) -> Messages:
    """The messages of a run: the shop-intents set, what was `labelled` by split, and `public` rows for training.

    Validation of the shop-intents set is carved out of its training rows by the hash of the text. A message of that
    set that was labelled since stays on its side and takes the new label. A training row that reads like one of
    validation or test is left out, and so is a row on any side that is nearly one of a later side, unless both are of
    the shop-intents set.

    Raises:
        NotEnoughData: a label has fewer than FEWEST rows to train on.
    """
    learned, tested = _relabelled(shop_intents("train"), labelled), fixed_test(labelled)
    held = learned["text"].map(place) < validation_share
    parts = {"train": [learned[~held]], "validation": [learned[held]], "test": [tested]}
    for split, rows in labelled.items():
        parts[split].append(_without(rows, learned, tested))
    test = _once(parts["test"])
    validation = _apart(_without(_once(parts["validation"]), test), test)
    train = _apart(_without(_once([*parts["train"], public]), test, validation), test, validation)
    every = sorted({label for part in (train, validation, test) for label in part["intent"]})
    counts = train["intent"].value_counts().reindex(every, fill_value=0)
    few = counts[counts < FEWEST]
    if len(few):
        raise NotEnoughData(f"found {few.to_dict()} rows to train on, need {FEWEST} of each label; label more")
    return Messages(train, validation, test)


def fixed_test(labelled: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The test messages of the shop-intents set, which no model has seen; one `labelled` since has the new label."""
    return _relabelled(shop_intents("test"), labelled)


def _relabelled(rows: pd.DataFrame, labelled: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`rows`, each with the label that its message was given since, if any."""
    since = {
        read_alike(text): label
        for part in labelled.values()
        for text, label in zip(part["text"], part["intent"], strict=True)
    }
    return rows.assign(intent=rows["text"].map(read_alike).map(since).fillna(rows["intent"])) if since else rows


def _once(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat([each for each in parts if len(each)], ignore_index=True)
    return rows[~rows["text"].map(read_alike).duplicated()].reset_index(drop=True)


def _without(rows: pd.DataFrame, *others: pd.DataFrame) -> pd.DataFrame:
    taken = {read_alike(text) for other in others for text in other["text"]}
    return rows[~rows["text"].map(read_alike).isin(taken)].reset_index(drop=True)


def _apart(rows: pd.DataFrame, *others: pd.DataFrame) -> pd.DataFrame:
    """`rows` without those that are nearly a message of `others`, pairs within the shop-intents set aside."""
    later = pd.concat(others)
    ours, theirs = rows["origin"] == SHOP_SET, later["origin"] == SHOP_SET
    pairs = crossing(rows.loc[~ours, "text"].tolist(), later["text"].tolist())
    pairs += crossing(rows.loc[ours, "text"].tolist(), later.loc[~theirs, "text"].tolist())
    return rows[~rows["text"].isin({text for text, _ in pairs})].reset_index(drop=True)
