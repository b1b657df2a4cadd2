"""A tuning end to end on forty products and a tiny BERT: what is chosen, what is refused, and what then encodes."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from data_contracts.artefact_store import ArtefactStore
from data_contracts.contract import load_contract
from data_contracts.errors import ArtefactRefused
from data_contracts.lake import arrow_schema, snapshot_digest
from data_contracts.partitions import describe, encode, writing
from data_contracts.release import Reproducible
from data_contracts.shop import load_shop
from mercato import paths, tuning
from mercato.paths import sha256_file
from mercato.settings import Settings
from serving.runtime import search
from serving.runtime.encoder import Encoder
from serving.runtime.keyword import IndexConfig
from tests.training.tiny_bert import write_tiny_bert
from training import embeddings, encoder_choice, golden, index, jobs, pairs
from training.datasets.builder import Inputs
from training.datasets.search_pairs import SEARCH_PAIRS
from training.datasets.splits import LeakageFound
from training.datasets.versions import DatasetManifest, build, rows_of
from training.errors import ArtefactMissing, NotEnoughData
from training.search_quality import Judgments
from training.tuning import TuningConfig

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
LATER = AT + timedelta(days=7)
ASKED = ["diya", "kursi", "ketli", "chamach", "kaleen", "sheesha", "takiya", "almari"]
KINDS = ["lamp", "chair", "kettle", "spoon", "carpet", "mirror", "pillow", "shelf"]
COLOURS = ["red", "blue", "green", "black", "white"]
PRODUCTS = [
    (f"{colour} {word}", f"{kind} in {colour}") for colour in COLOURS for word, kind in zip(ASKED, KINDS, strict=True)
]
JUDGMENTS = Judgments.of(
    pd.DataFrame(
        [(query, f"p{at:02}", 3, "all") for at, (query, _) in enumerate(PRODUCTS)],
        columns=["query", "product_id", "grade", "slice"],
    )
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert", [*ASKED, *KINDS, *COLOURS, "in"])


@pytest.fixture
def config(base: Path) -> TuningConfig:
    """Enough to learn in seconds which word of a query means which kind."""
    return TuningConfig(base_model=str(base), batch_size=8, learning_rate=1e-2, epochs=30, threads=1, save_steps=500)


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shop has judged queries; two of five folds judge, the others teach."""
    monkeypatch.setattr(golden, "has", lambda _shop: True)
    monkeypatch.setattr(golden, "read", lambda _shop: JUDGMENTS)
    monkeypatch.setattr(pairs, "DEFAULT", pairs.PairConfig(held_out_folds=2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake with forty products and nothing else."""
    settings = Settings(home=tmp_path, mlflow_url="none")
    land(settings, AT - timedelta(days=2), [name for _, name in PRODUCTS])
    return settings


def land(settings: Settings, known: datetime, names: list[str]) -> None:
    """A partition of clean/products."""
    contract = load_contract("products")
    empty = dict.fromkeys(each.name for each in contract.columns)
    rows = [
        {**empty, "product_id": f"p{at:02}", "name": name, "event_time": known, "known_at": known}
        for at, name in enumerate(names)
    ]
    table = pa.Table.from_pylist(rows, arrow_schema(contract))
    data, day = encode(table), load_shop(settings.shop).business_day(known)
    with writing(paths.lake(settings)) as out:
        said = {"table": "products", "layer": "clean", "ds": day, "contract": contract.label, "inputs": {}}
        out.put(data, describe(table, data, **said))


def pairs_of(settings: Settings, until: datetime = AT) -> DatasetManifest:
    """A version of the pairs."""
    shop = load_shop(settings.shop)
    return build(SEARCH_PAIRS, Inputs(paths.lake(settings), shop, shop.window()[0], until))


def store(settings: Settings) -> ArtefactStore:
    return ArtefactStore(paths.lake(settings))


def test_the_pairs_hold_no_query_that_is_kept_for_judging(settings: Settings) -> None:
    """Of forty judged queries 24 teach and 16 judge; the same inputs make the same version."""
    made = pairs_of(settings)
    rows = rows_of(paths.lake(settings), made).to_pandas()
    held = pairs.held_out(JUDGMENTS, pairs.DEFAULT)
    plain = rows[~rows["noisy"]]
    assert len(held) == 16
    assert set(plain["query"]) == set(JUDGMENTS.grades) - set(held)
    assert set(rows["origin"]) == {"judgment"}
    assert rows["noisy"].any()
    assert pairs_of(settings) == made


def test_a_tuned_encoder_that_finds_more_encodes_the_products(
    settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wins on queries it never saw, and train_embeddings takes it; without new pairs nothing is tuned again.

    The folder of an earlier run that was killed and never resumed goes with its own.
    """
    pairs_of(settings)
    killed = settings.root / "tuning" / settings.shop / "older-20171127" / "checkpoint-50"
    killed.mkdir(parents=True)
    done = tuning.tune_encoder(settings, AT, config)
    assert not killed.exists()
    said = encoder_choice.report(store(settings), AT)
    assert said is not None
    assert done["chosen"] == said["chosen"] == "tuned", said
    scores = {row["method"]: row for row in said["rows"]}
    assert set(scores) == {"bm25", "un-tuned", "tuned", "int8"}
    assert {row["queries"] for row in said["rows"]} == {16}
    assert scores["tuned"]["ndcg_at_10"] > scores["un-tuned"]["ndcg_at_10"]
    assert said["int8_loss"] == pytest.approx(scores["tuned"]["ndcg_at_10"] - scores["int8"]["ndcg_at_10"], abs=2e-4)
    assert said["int8"] == (said["int8_loss"] < tuning.MAX_INT8_LOSS)
    monkeypatch.setattr(embeddings, "EncoderConfig", lambda: EncoderConfig(base_model=config.base_model, threads=1))
    told: dict[str, Any] = {}
    plain = jobs.record

    def record(settings: Settings, name: str, save: Any, **given: Any) -> Any:
        told[name] = given["config"]
        return plain(settings, name, save, **given)

    monkeypatch.setattr(jobs, "record", record)
    jobs.train_embeddings(settings, LATER)
    assert newest(settings, "encoder") == said["files"]["chosen_encoder"]
    encoder = store(settings).newest_ref("encoder", until=LATER)
    assert encoder is not None
    assert encoder.artefact.reproducible is Reproducible.QUALITY
    chosen = encoder_choice.newest(store(settings), LATER, config.base_model)
    assert chosen is not None
    assert (chosen.run_id, chosen.pairs) == (done["run_id"], said["pairs"])
    assert told["encoder"] == told["product_vectors"]
    assert told["encoder"].items() >= {"encoder_choice": chosen.run_id, "search_pairs": chosen.pairs}.items()
    assert vectors_by(settings) == newest(settings, "encoder")
    with pytest.raises(NotEnoughData, match=r"found 0 pairs that the last tuning did not see, need 640"):
        tuning.tune_encoder(settings, LATER, config)
    other = ArtefactStore(replace(paths.lake(settings), root=str(settings.root / "replay")))
    encoder_choice.copy(store(settings), other, AT)
    assert store(settings).newest_ref(encoder_choice.REPORT, until=AT) is not None
    assert encoder_choice.newest(other, AT, config.base_model) is None, "it ends after that night's embedding"
    encoder_choice.copy(store(settings), other, LATER)
    assert encoder_choice.newest(other, LATER, config.base_model) is not None
    assert encoder_choice.newest(other, LATER, "package:another_base") is None
    assert encoder_choice.newest(other, AT, config.base_model) is None


def test_another_base_is_tuned_on_the_same_pairs(
    settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another encoder learned from is news; a later tuning mines the mistakes of the encoder that serves."""
    pairs_of(settings)
    few = config.model_copy(update={"max_steps": 2})
    mined: list[list[float]] = []
    plain = tuning.negatives.triplets

    def triplets(rows: pd.DataFrame, encoder: Any, *given: Any) -> pd.DataFrame:
        mined.append(encoder.encode(["red diya"])[0].tolist())
        return plain(rows, encoder, *given)

    monkeypatch.setattr(tuning.negatives, "triplets", triplets)
    tuning.tune_encoder(settings, AT, few)
    chosen = encoder_choice.newest(store(settings), LATER, config.base_model)
    assert chosen is not None
    served = Encoder.load(chosen.encoder, chosen.tokenizer).encode(["red diya"])[0].tolist()
    with pytest.raises(NotEnoughData, match="found 0 pairs"):
        tuning.tune_encoder(settings, LATER, few)
    monkeypatch.setattr(tuning, "MIN_NEW_PAIRS", 0)
    tuning.tune_encoder(settings, LATER, few)
    assert mined[1] == served != mined[0]
    monkeypatch.setattr(tuning, "MIN_NEW_PAIRS", 640)
    other = settings.root / "another_base"
    shutil.copytree(config.base_model, other)
    tuning.tune_encoder(settings, LATER, few.model_copy(update={"base_model": str(other)}))
    assert len(mined) == 3


EncoderConfig = embeddings.EncoderConfig


def newest(settings: Settings, name: str) -> str:
    """sha256 of the newest artefact of a name."""
    ref = store(settings).newest_ref(name, until=LATER)
    assert ref is not None
    return ref.artefact.sha256


def vectors_by(settings: Settings) -> str:
    """sha256 of the encoder that made the newest product vectors."""
    ref = store(settings).newest_ref("product_vectors", until=LATER)
    assert ref is not None
    return index.read_vectors(store(settings).fetch_one(ref.name, ref.artefact))[2]


def test_a_tuned_encoder_that_finds_no_more_stays_on_the_shelf(
    settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a learning rate that teaches nothing, the un-tuned encoder ships, byte for byte.

    Products that land while it trains are not among those that it says it read.
    """
    monkeypatch.setattr(tuning, "MAX_INT8_LOSS", -1.0)
    pairs_of(settings)
    read = snapshot_digest(paths.lake(settings), "products", event_before=AT, known_before=AT)
    plain = tuning.tune

    def while_products_land(*given: Any) -> Any:
        land(settings, AT - timedelta(days=1), ["lamp in gold"])
        return plain(*given)

    monkeypatch.setattr(tuning, "tune", while_products_land)
    done = tuning.tune_encoder(settings, AT, config.model_copy(update={"learning_rate": 1e-12, "max_steps": 2}))
    assert (done["chosen"], done["int8"]) == ("un-tuned", False)
    kept = store(settings).newest_ref(encoder_choice.REPORT, until=AT)
    assert kept is not None
    assert kept.snapshots["products"] == read
    model, _ = embeddings.export_onnx(EncoderConfig(base_model=config.base_model), tmp_path)
    assert newest(settings, "chosen_encoder") == sha256_file(model)


def test_only_new_texts_are_encoded_and_the_vectors_are_those_of_encoding_all(
    settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of forty products is renamed: one text is encoded, one is gone. Other code, or another encoder: all again."""
    monkeypatch.setattr(embeddings, "EncoderConfig", lambda: EncoderConfig(base_model=config.base_model, threads=1))
    jobs.train_embeddings(settings, AT)
    names = [name for _, name in PRODUCTS]
    land(settings, LATER - timedelta(days=1), ["lamp in gold", *names[1:]])
    assert jobs.train_embeddings(settings, LATER)["encoded"] == 1
    kept = newest(settings, "product_vectors")
    assert jobs.train_embeddings(settings, LATER)["encoded"] == 0
    encoder = newest(settings, "encoder")
    assert len(embeddings.known_vectors(store(settings), LATER, encoder)) == len(set(names))
    assert embeddings.known_vectors(store(settings), LATER, "another") == {}
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "code_revision", lambda: "other")
        assert jobs.train_embeddings(settings, LATER)["encoded"] == len(set(names))
    assert newest(settings, "product_vectors") == kept
    Path(store(settings).lake.path("artefacts", kept)).unlink()
    assert jobs.train_embeddings(settings, LATER)["encoded"] == len(set(names))
    assert newest(settings, "product_vectors") == kept


def test_an_index_of_the_fp32_encoder_cannot_be_served_with_its_int8_form(
    settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where int8 ships it has encoded the products too; an index that fp32 built is another encoder's."""
    monkeypatch.setattr(tuning, "MAX_INT8_LOSS", 2.0)
    monkeypatch.setattr(embeddings, "EncoderConfig", lambda: EncoderConfig(base_model=config.base_model, threads=1))
    pairs_of(settings)
    assert tuning.tune_encoder(settings, AT, config.model_copy(update={"max_steps": 2}))["int8"]
    jobs.train_embeddings(settings, LATER)
    assert vectors_by(settings) == newest(settings, "encoder") == newest(settings, "chosen_encoder")
    fp32, tokenizer = embeddings.export_onnx(EncoderConfig(base_model=config.base_model), tmp_path)
    products = pd.DataFrame(
        [
            {
                "product_id": "p1",
                **dict.fromkeys(
                    ("product_type", "brand", "category", "department", "package_size", "attributes", "description")
                ),
                "name": "lamp",
            }
        ]
    )
    keyword, faiss = tmp_path / "keyword", tmp_path / "faiss"
    index.build_keyword_index(products, ["lamp"], IndexConfig(), keyword, encoder=sha256_file(fp32), until=AT)
    index.build_vector_index(embeddings.encode_texts(EncoderConfig(), fp32, tokenizer, ["lamp"]), faiss)
    int8 = store(settings).lake.path("artefacts", newest(settings, "encoder"))
    files = {"encoder": Path(int8), "tokenizer": tokenizer, "faiss_index": faiss, "keyword_index": keyword}
    unused: Any = None
    with pytest.raises(ArtefactRefused, match="built by encoder"):
        search.load(files, unused)


def test_pairs_that_know_the_answers_are_refused(
    settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that was built when nothing was kept for judging leaks; the tuning stops before it begins."""
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "DEFAULT", pairs.PairConfig(held_out_folds=0))
        pairs_of(settings)
    with pytest.raises(LeakageFound, match="nearly one of those kept for judging"):
        tuning.tune_encoder(settings, AT, config)


def test_what_is_missing_is_named(settings: Settings, config: TuningConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pairs: which DAG to run. No judged queries: nothing could win, so nothing is tuned."""
    with pytest.raises(ArtefactMissing, match="run build_datasets first"):
        tuning.tune_encoder(settings, AT, config)
    pairs_of(settings)
    monkeypatch.setattr(golden, "read", lambda _shop: Judgments({}, {}))
    with pytest.raises(NotEnoughData, match=r"found 0 judged queries .* need 5; extend the golden set"):
        tuning.tune_encoder(settings, AT, config)
    few = Judgments({f"{each} q": {"p00": 3} for each in "abcd"}, {f"{each} q": "all" for each in "abcd"})
    monkeypatch.setattr(golden, "read", lambda _shop: few)
    monkeypatch.setattr(pairs, "DEFAULT", pairs.PairConfig(held_out_folds=5))
    with pytest.raises(NotEnoughData, match=r"found 4 judged queries .* need 5; extend the golden set"):
        tuning.tune_encoder(settings, AT, config)
