"""An intent model over pieces of words, of a few real messages, and a release to put it in."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from data_contracts.artefact_store import ArtefactStore
from data_contracts.release import Artefact, Manifest, Provenance, ReleaseIdentity
from serving.runtime.intent import IntentModel
from training.intent_data import shop_intents
from training.intent_linear import fit_words


def small_intent() -> IntentModel:
    """Three intents in English; no encoder."""
    rows = shop_intents("train")
    rows = rows[rows["intent"].isin(["greeting", "track", "out_of_scope"]) & (rows["language"] == "en")]
    labels = sorted(rows["intent"].unique())
    codes = np.asarray(pd.Categorical(rows["intent"], categories=labels).codes, np.int64)
    words = fit_words(rows["text"].tolist(), codes, np.ones(len(rows), np.float32), regularisation=10.0)
    meta = {"kind": "intent", "labels": labels, "method": "words", "words_weight": 1.0, "temperature": 1.0,
            "threshold": 0.0, "fit_until": "2017-12-04T05:00:00+00:00"}  # fmt: skip
    return IntentModel(meta, words)


def release_of(store: ArtefactStore, artefacts: Mapping[str, Artefact]) -> str:
    """The id of a release of these alone, saved; it says where its intent model came from."""
    made = Manifest.of(
        ReleaseIdentity(shop=store.lake.shop, artefacts=dict(artefacts), feature_services={}, contracts={}),
        Provenance(
            runs={"intent": "run-7"},
            snapshots={"intent_messages": "x", "products": "y"},
            fit_until=datetime(2017, 12, 4, 5, tzinfo=UTC),
            code_revision="test",
            dag_runs={},
            metrics={"intent.ece": 0.1, "faiss_index.recall": 1.0},
        ),
    )
    store.save_release(made)
    return made.release_id
