"""The intent model: how it is trained, exported, chosen and reported."""

import json
import multiprocessing
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import structlog
import torch

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.intents import load_labels
from data_contracts.release import Kind
from mercato import paths
from mercato.commands.evaluate import _side_by_side
from mercato.intent_quality import evaluate_intent, intents, latency
from mercato.settings import Settings
from mercato.stores.routing import routing_store
from monitoring.statistics import paired_gain
from serving.runtime import npz
from serving.runtime.intent import OUT_OF_SCOPE, EncoderModel, IntentModel, decide
from tests.training import small_bert
from tests.training.small_intent import release_of, small_intent
from training import intent_encoder as encoders
from training import intent_job
from training.annotation.export import export_errors
from training.base_models import load_base
from training.errors import BadConfig, BaseModelMissing
from training.intent import FINE_TUNED, IntentRun, _when_words_are_enough, _Work, suspicious, train
from training.intent_calibration import calibrate, ece, sure_above
from training.intent_config import SHOP, Encoder, IntentConfig
from training.intent_data import COLUMNS, Messages, gather
from training.intent_linear import fit_words, row_weights
from training.intent_live import intent_for_release
from training.intent_metrics import judged, per_intent, summary
from training.intent_robustness import code_switched, with_typos

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
NONE = pd.DataFrame(columns=list(COLUMNS))
SMALL = {"greeting", "track", OUT_OF_SCOPE}


def small_messages() -> Messages:
    """A third of the messages of three intents, English and Hindi: few enough to train on in a second."""
    whole = gather({}, NONE, validation_share=0.15)
    keep = [
        part[part["intent"].isin(SMALL) & part["language"].isin(["en", "hi"])].iloc[::3].reset_index(drop=True)
        for part in (whole.train, whole.validation, whole.test)
    ]
    return Messages(*keep)


@pytest.fixture(scope="module")
def messages() -> Messages:
    return small_messages()


@pytest.fixture(scope="module")
def config(messages: Messages, tmp_path_factory: pytest.TempPathFactory) -> IntentConfig:
    base = small_bert.write(tmp_path_factory.mktemp("bert"), messages.train["text"].tolist())
    return IntentConfig(base_model=base, epochs=2, learning_rate=1e-3, romanise=False)


@pytest.fixture(scope="module")
def run(config: IntentConfig, messages: Messages, tmp_path_factory: pytest.TempPathFactory) -> IntentRun:
    return train(config, messages, AT, tmp_path_factory.mktemp("checkpoints"))


def test_rows_of_rare_labels_weigh_more() -> None:
    """Four rows of one label and one of another: the label weighs twice the other, not four times; the mean is 1."""
    found = row_weights(np.array([0, 0, 0, 0, 1]), np.ones(5, np.float32))
    np.testing.assert_allclose(found, np.array([1, 1, 1, 1, 2]) * 5 / 6, rtol=1e-6)


def test_words_are_served_as_scikit_learn_computes_them(messages: Messages) -> None:
    """The served arithmetic is TF-IDF and logistic regression, piece by piece, also for a text of no known piece."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from feature_repo.message_text import message_features

    texts = messages.train["text"].tolist()
    codes = pd.Categorical(messages.train["intent"]).codes.astype(np.int64)
    words = fit_words(texts, codes, np.ones(len(texts), np.float32), regularisation=10.0)
    matrix = TfidfVectorizer(analyzer=message_features, sublinear_tf=True, min_df=2).fit(texts)
    for text in messages.test["text"].iloc[::25]:
        expected = matrix.transform([text]) @ words.weights + words.bias
        np.testing.assert_allclose(words.logits(text), expected[0], atol=1e-4)
    np.testing.assert_array_equal(words.logits(""), words.bias)


def test_what_is_judged_is_what_is_served(run: IntentRun, messages: Messages, tmp_path: Path) -> None:
    """A saved model answers as before it was saved; its probabilities add up to 1, highest first."""
    for each in run.candidates:
        loaded = IntentModel.load(each.model.save(tmp_path / "intent"))
        text = messages.test["text"].iloc[0]
        said = loaded.answer(text)
        assert said == each.model.answer(text)
        assert sum(said.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert list(said.probabilities.values()) == sorted(said.probabilities.values(), reverse=True)
    with pytest.raises(ArtefactRefused, match="without words and encoder"):
        IntentModel.load(npz.write(tmp_path / "empty", {}, {"kind": "intent"}))
    with pytest.raises(ArtefactRefused, match="does not parse"):
        EncoderModel.of(b"no model", b"{}")
    with pytest.raises(ArtefactRefused, match="run train_intent again"):
        IntentModel.load(npz.write(tmp_path / "older", {}, {"kind": "intent", "prefix": "query: "}))


def test_every_part_of_a_run_is_there(run: IntentRun, messages: Messages) -> None:
    """Linear candidates beside the fine-tuned; the export says what each variant scored; words beat guessing."""
    assert [each.name for each in run.candidates] == [
        "words", "frozen", "frozen + words", "fine-tuned", "fine-tuned + words"
    ]  # fmt: skip
    assert set(run.exports[FINE_TUNED]) >= {"trained", "int8"}
    assert len(run.curve) >= 1
    rows = judged(run.named("words").model, messages.test)
    assert summary(rows)["accuracy"] > 0.6  # three intents: guessing gives a third
    assert {"likelier", "margin"} <= set(run.suspicious.columns)


def test_a_run_stops_where_it_is_told(config: IntentConfig, messages: Messages, tmp_path: Path) -> None:
    """Without the encoder its base is not even looked for; no encoder and no words is no model."""
    without = {"encoder": Encoder.NONE, "base_model": str(tmp_path / "not-there")}
    assert [each.name for each in train(config.model_copy(update=without), messages, AT, tmp_path).candidates] == [
        "words"
    ]
    with pytest.raises(BadConfig, match="leaves no model"):
        train(config.model_copy(update={**without, "words": False}), messages, AT, tmp_path)


def test_the_cheaper_model_ships_unless_the_encoder_wins(run: IntentRun) -> None:
    """The verdict decides, not the difference."""
    assert run.choose(lambda _a, _b: True).fine_tuned
    cheap = run.choose(lambda _a, _b: False)
    assert not cheap.fine_tuned
    assert cheap.accuracy == max(each.accuracy for each in run.candidates if not each.fine_tuned)


def test_a_label_that_is_wrong_is_doubted(messages: Messages, config: IntentConfig, tmp_path: Path) -> None:
    """Ten training labels changed on purpose are doubted three times as often as the others."""
    spoiled = messages.train.copy()
    picked = spoiled.index[spoiled["intent"] == "track"][:10]
    spoiled.loc[picked, "intent"] = "greeting"
    changed = Messages(spoiled, messages.validation, messages.test)
    found = train(config.model_copy(update={"epochs": 1}), changed, AT, tmp_path).suspicious
    doubted = spoiled["text"].isin(found["text"])
    assert doubted[picked].mean() > 3 * doubted.drop(picked).mean()


def test_labels_of_two_rows_are_doubted_by_models_that_know_them(config: IntentConfig, messages: Messages) -> None:
    """Both rows are never set aside together, however the folds are drawn."""
    rare = messages.train.groupby("intent").head(2)
    for seed in range(4):
        work = _Work(config.model_copy(update={"seed": seed}), Messages(rare, messages.validation, messages.test), AT)
        found = suspicious(work, np.random.default_rng(seed).random((len(rare), 8), np.float32))
        assert len(found) <= len(rare)


def tune(config: IntentConfig, messages: Messages, checkpoints: Path) -> tuple[list[dict[str, float]], np.ndarray]:
    """(curve, the head's weights) of fine-tuning on 64 messages."""
    bert, tokenizer = load_base(config.base_model)
    torch.manual_seed(0)
    model = encoders.Classifier(bert, 3)
    rows = messages.train.iloc[:: max(1, len(messages.train) // 64)].iloc[:64]
    ids = encoders.encoded(tokenizer, rows["text"].tolist(), config.max_length)
    codes = np.asarray(pd.Categorical(rows["intent"]).codes, np.int64)
    read = (ids, codes, np.ones(len(ids), np.float32))
    curve = encoders.fine_tune(model, tokenizer, config, train=read, validation=read, checkpoints=checkpoints)
    return curve, model.head.weight.detach().numpy().copy()


def test_training_goes_on_after_a_kill(messages: Messages, config: IntentConfig, tmp_path: Path) -> None:
    """Kill -9 after the first checkpoint: the next run resumes there and ends with the weights of a run left alone."""
    long = config.model_copy(update={"epochs": 12, "patience": 99})
    killed = tmp_path / "killed"
    # A fork would inherit torch's threads as locks that nobody opens.
    child = multiprocessing.get_context("spawn").Process(target=tune, args=(long, messages, killed))
    child.start()
    end = time.monotonic() + 120
    while not list(killed.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < end:
        time.sleep(0.005)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL, "it was over before it was killed"
    left = {each.name for each in killed.glob("checkpoint-*")}
    (resumed, again), (alone, once) = tune(long, messages, killed), tune(long, messages, tmp_path / "alone")
    assert left, "no checkpoint was written"
    assert [each["epoch"] for each in resumed] == [float(n) for n in range(1, 13)]
    np.testing.assert_allclose([each["loss"] for each in resumed], [each["loss"] for each in alone], rtol=1e-4)
    np.testing.assert_allclose(again, once, atol=1e-5)


def test_the_threshold_refuses_what_nothing_is_sure_of() -> None:
    """Below the threshold the answer is out of scope, and its confidence is what the best label leaves over."""
    labels = ("cart", OUT_OF_SCOPE, "track")
    found, sure = decide(np.array([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1], [0.9, 0.0, 0.1]], np.float32), labels, 0.55)
    assert found.tolist() == [1, 1, 0]
    np.testing.assert_allclose(sure, [0.5, 0.7, 0.9], rtol=1e-6)
    assert decide(np.array([[0.4, 0.6]], np.float32), ("a", "b"), 0.9)[0].tolist() == [1]


def test_temperature_makes_confidence_honest() -> None:
    """Logits that are right in 8 of 10 at any size get a temperature at which they say .8."""
    truth = np.array([0] * 80 + [1] * 20)
    logits = np.tile(np.array([10.0, 0.0], np.float32), (100, 1))
    found = calibrate([logits], truth, ("a", "b"))
    assert found.probabilities([logits])[0, 0] == pytest.approx(0.8, abs=0.01)
    assert ece(np.full(100, 1.0, np.float32), truth == 0) == pytest.approx(0.2)
    assert ece(np.full(100, 0.8, np.float32), truth == 0) == pytest.approx(0.0, abs=1e-6)


def test_the_threshold_is_where_out_of_scope_is_found_best() -> None:
    """In-scope messages are sure, out-of-scope ones are not: the threshold falls between the two."""
    sure, unsure = [[6.0, 0.0, 0.0]] * 10, [[1.0, 0.9, 0.0]] * 10
    logits = np.array(sure + unsure, np.float32)
    found = calibrate([logits], np.array([0] * 10 + [2] * 10), ("cart", "track", OUT_OF_SCOPE))
    probabilities = found.probabilities([logits])
    assert probabilities[10, 0] < found.threshold <= probabilities[0, 0]
    assert decide(probabilities, ("cart", "track", OUT_OF_SCOPE), found.threshold)[0].tolist() == [0] * 10 + [2] * 10
    alone = calibrate([logits], np.array([0] * 10 + [1] * 10), ("cart", "track", "help"))
    assert alone.threshold == 0.0


def test_the_encoder_is_not_asked_where_the_words_are_sure(messages: Messages) -> None:
    """Answered one by one or judged all at once: the same, and the encoder reads the unsure messages only."""
    words = small_intent().words
    assert words is not None
    read: list[str] = []

    class Guess:
        """Says the last label, whatever it reads."""

        def encode(self, texts: list[str]) -> list[list[float]]:
            read.extend(texts)
            return [[0.0, 0.0, 5.0]]

    labels = small_intent().labels
    meta = {"labels": labels, "temperature": 1.0, "threshold": 0.0, "words_weight": 0.1, "encoder_weight": 0.9}
    encoder = EncoderModel(b"", b"", cast(Any, Guess()))
    for bound in ({}, {"words_sure": 0.9}):
        model = IntentModel({**meta, **bound}, words, encoder)
        rows = judged(model, messages.test)
        read.clear()
        answers = [model.answer(text) for text in messages.test["text"]]
        assert [each.intent for each in answers] == rows["predicted"].tolist()
        np.testing.assert_allclose([each.confidence for each in answers], rows["confidence"])
        assert (len(read) == len(answers)) == (not bound)
        assert read


def test_the_bound_of_being_sure_counts_one_error_more() -> None:
    """200 right answers are the least that show 99.5 %; errors among them, or fewer, show nothing."""
    confidence = np.linspace(1.0, 0.5, 300, dtype=np.float32)
    right = np.arange(300) < 250
    assert (confidence > sure_above(confidence, right)).sum() == 250
    assert sure_above(confidence[:199], right[:199]) == 1.0
    assert sure_above(confidence[:200], right[:200]) == 0.0
    tied = np.array([0.99] * 199 + [0.9] * 3, np.float32)
    assert sure_above(tied, np.arange(202) < 200) == 1.0, "the bound stands between two confidences, not inside one"


def test_the_words_are_sure_of_what_is_served(messages: Messages) -> None:
    """Messages that the threshold of both parts sends out of scope are no right answers of the words."""
    work = _Work(IntentConfig(), messages, AT)
    logits = np.zeros((len(work.truth), len(work.labels)), np.float32)
    logits[np.arange(len(work.truth)), work.truth] = 5.0
    logits = np.tile(logits, (20, 1))
    work.truth = np.tile(work.truth, 20)
    assert _when_words_are_enough(work, logits, 0.5)["words_sure"] < 1.0
    assert _when_words_are_enough(work, logits, 1.1)["words_sure"] == 1.0


def test_precision_and_recall_by_hand() -> None:
    """Two of three carts found, one false alarm: precision 2/3, recall 2/3."""
    rows = pd.DataFrame({"intent": ["cart", "cart", "cart", "help"], "predicted": ["cart", "cart", "help", "cart"]})
    table = per_intent(rows)
    assert table.loc["cart", "precision"] == pytest.approx(2 / 3)
    assert table.loc["cart", "recall"] == pytest.approx(2 / 3)
    assert table.loc["help", "recall"] == 0.0


def test_messages_are_made_worse_in_the_way_that_is_said() -> None:
    """A typo changes long words only, by one edit; code-switching leaves no Devanagari."""
    changed = with_typos("where is my package", np.random.default_rng(1))
    assert changed.split()[1:3] == ["is", "my"]
    assert changed != "where is my package"
    assert abs(len(changed) - len("where is my package")) <= 2
    hindi = ["मेरा पार्सल कहाँ है", "डिलीवरी कब तक होगी"]
    made = [with_typos(text, np.random.default_rng(1)) for text in hindi]
    assert [text.split()[0] for text in made] == ["मेरा", made[1].split()[0]]
    assert made[0].split()[2:] == ["कहाँ", "है"]
    assert all(new != old and abs(len(new) - len(old)) <= 1 for new, old in zip(made, hindi, strict=True))
    assert with_typos("order 1234567 NE1W00", np.random.default_rng(1)).split()[1:] == ["1234567", "NE1W00"]
    assert code_switched("मेरा order कहाँ है", np.random.default_rng(0)) == "mera order kahan hai"


def test_a_run_leaves_model_report_and_next_batch(
    config: IntentConfig, messages: Messages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artefact is found by its ref, the batch by its path; the same labels and recipe train nothing again."""
    monkeypatch.setattr(intent_job, "messages_of", lambda *_: messages)
    pages: list[str] = []
    kept = intent_job.record
    monkeypatch.setattr(
        intent_job, "record", lambda *a, **k: (pages.extend(each.read_text() for each in k["beside"]), kept(*a, **k))[1]
    )
    settings = Settings(home=tmp_path, mlflow_url="none")
    config = config.model_copy(update={"encoder": Encoder.FROZEN})
    said = intent_job.train_intent(settings, AT, wins=lambda _a, _b: True, config=config)
    lake = paths.lake(settings)
    ref = ArtefactStore(lake).newest_ref("intent", until=AT)
    assert ref is not None
    model = IntentModel.load(ArtefactStore(lake).fetch_one("intent", ref.artefact))
    assert model.meta["method"] == said["method"]
    batch = [json.loads(line) for line in Path(said["hard_messages"]).read_text().splitlines()]
    assert {each["reason"] for each in batch} <= {"error", "doubted label"}
    assert {"text", "language", "origin", "label", "predicted", "confidence", "reason"} == set(batch[0])
    assert [json.loads(line) for line in pages[1].splitlines()] == batch
    asked = export_errors(lake, load_labels(), AT, Path(said["hard_messages"])).batch
    assert asked is not None
    assert 0 < asked.tasks <= len(batch)
    for heading in ("By intent and language", "Confusion", "Calibration", "Robustness", "in doubt"):
        assert heading in pages[0]
    assert "http" not in pages[0].replace("http-equiv", "")
    again = intent_job.train_intent(settings, AT, wins=lambda _a, _b: True, config=config)
    assert again["unchanged"] is True
    assert again["sha256"] == said["sha256"]
    broken = Path(lake.path("artefacts", said["sha256"]))
    broken.write_bytes(broken.read_bytes()[:1000])
    mended = intent_job.train_intent(settings, AT, wins=lambda _a, _b: True, config=config)
    assert "unchanged" not in mended
    IntentModel.load(ArtefactStore(lake).fetch_one("intent", ref.artefact))


def test_the_base_is_a_setting(tmp_path: Path) -> None:
    """What it is by default changes nothing of the shop's recipe; another one is looked for."""
    assert intent_job.recipe(Settings(), SHOP.encoder) == SHOP
    settings = Settings(home=tmp_path, intent_base_model=str(tmp_path / "not-there"))
    found = intent_job.recipe(settings, Encoder.FROZEN)
    assert found == SHOP.model_copy(update={"encoder": Encoder.FROZEN, "base_model": settings.intent_base_model})
    with pytest.raises(BaseModelMissing, match="not-there"):
        train(found.model_copy(update={"words": False}), small_messages(), AT, tmp_path)


def test_a_worse_intent_model_stays_out_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The live one stays, with where it came from and both accuracies; unless the loss is in doubt, or none is live."""
    settings = Settings(home=tmp_path)
    store = ArtefactStore(paths.lake(settings))
    model, asked = small_intent(), []
    worse = IntentModel({**model.meta, "threshold": 1.1}, model.words)  # everything is out of scope

    def loses(challenger: Sequence[float], rival: Sequence[float]) -> bool:
        asked.append((np.mean(challenger), np.mean(rival)))
        return paired_gain(challenger, rival).high < 0

    assert intent_for_release(settings, AT, loses=loses) is None
    good, bad = (store.put(each.save(tmp_path / "intent"), Kind.NPZ) for each in (model, worse))
    newest = ArtefactRef(name="intent", artefact=bad, fit_until=AT, run_id="", snapshots={})
    store.write_ref(newest)
    assert intent_for_release(settings, AT, loses=loses) == newest  # the first one of a shop
    for generation, artefacts in enumerate(({"other": good}, {"intent": bad}, {"intent": good})):
        assert not asked  # there is no rival, or it is the same
        assert intent_for_release(settings, AT, loses=loses) == newest
        routing_store(settings).write(settings.shop, seen=generation, salt="s", reason="t", at=AT,
                                      weights={release_of(store, artefacts): 10_000})  # fmt: skip
    with structlog.testing.capture_logs() as logged:
        kept = intent_for_release(settings, AT, loses=loses)
    ((refused, live),) = asked
    assert refused < live
    assert kept == newest.model_copy(
        update={
            "artefact": good,
            "run_id": "run-7",
            "snapshots": {"intent_messages": "x"},
            "metrics": {"ece": 0.1, "kept_accuracy": live, "refused_accuracy": refused},
        }
    )
    assert [each["event"] for each in logged] == ["intent.live_kept"]
    assert intent_for_release(settings, AT, loses=lambda _a, _b: False) == newest
    earlier = AT - timedelta(days=1)
    store.write_ref(newest.model_copy(update={"fit_until": earlier}))
    assert intent_for_release(settings, earlier, loses=loses).artefact == bad  # the live one saw later labels
    store.lake.local(store.lake.path("artefacts", good.sha256)).unlink()
    assert intent_for_release(settings, AT, loses=loses) == newest  # the live one cannot be loaded


def test_the_served_model_is_scored_beside_baselines(
    config: IntentConfig, messages: Messages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Per method and language with paired gains; a release without an intent model says what to do.

    The model was trained with other messages than there are now: only the fixed test set counts.
    """
    test = messages.test.assign(origin=["annotation b"] * 3 + ["shop_intents"] * (len(messages.test) - 3))
    changed = Messages(messages.train, messages.validation, test)
    monkeypatch.setattr(intent_job, "messages_of", lambda *_: changed)
    monkeypatch.setattr(intent_job, "SHOP", config)
    settings = Settings(home=tmp_path, intent_base_model=config.base_model)
    store = ArtefactStore(paths.lake(settings))
    ids = {}
    for name in ("intent", "other"):
        artefact = store.put(small_intent().save(tmp_path / "intent"), Kind.NPZ)
        ids[name] = release_of(store, {name: artefact})
    found = evaluate_intent(settings, ids["intent"])
    methods = {row["method"] for row in found["rows"]}
    assert methods >= {"served", "words (baseline)", "frozen (baseline)", "frozen + words (baseline)", "served, typos"}
    served = {row["language"]: row for row in found["rows"] if row["method"] == "served"}
    assert served["en"]["accuracy"] > served["hi"]["accuracy"]  # it learned English only
    assert served["en"]["served_gain"] is None
    assert all(row["served_gain"][1] <= row["served_gain"][0] for row in found["rows"] if row["method"] != "served")
    assert {row["language"] for row in found["intents"]} == {"every language", "en", "hi"}
    assert {row["messages"] for row in found["intents"] if row["language"] == "en"} < {*range(40)}
    assert [row["messages"] for row in found["intents"][:3]] == test[3:].groupby("intent").size().tolist()
    assert found["latency"]["p50_ms"] > 0
    assert found["messages"].startswith(f"{len(messages.test) - 3} test messages of shop_intents alone")
    with pytest.raises(UnknownRelease, match="no intent model"):
        evaluate_intent(settings, ids["other"])


def test_intents_stand_side_by_side_by_language() -> None:
    """One of two `track` is found; a language without an intent leaves its cell empty."""
    rows = pd.DataFrame(
        {
            "intent": ["cart", "track", "track"],
            "language": ["en", "en", "hi"],
            "predicted": ["cart", "track", "cart"],
        }
    )
    assert _side_by_side(intents(rows)) == [
        {"precision / recall": "cart", "every language": "0.500 / 1.000", "en": "1.000 / 1.000", "hi": ""},
        {"precision / recall": "track", "every language": "1.000 / 0.500", "en": "1.000 / 1.000", "hi": "nan / 0.000"},
    ]


def test_a_latency_is_of_messages_read_before() -> None:
    """Each text is answered twice, and the first pass, whole, does not count."""
    asked: list[str] = []
    texts = [str(n) for n in range(120)]
    latency(SimpleNamespace(answer=asked.append), texts)
    assert asked == texts * 2
