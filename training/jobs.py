"""What the DAG tasks and the CLI call: one function a step, settings and instants in, a small JSON value out.

Heavy imports are inside the functions: a task pays for its own step only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.lake import as_of, snapshot_digest
from data_contracts.partitions import let_go, manifests, quiet_days
from data_contracts.release import Kind, Manifest, Provenance, ReleaseIdentity, Reproducible
from data_contracts.shop import Shop, load_shop
from feature_repo.views import SERVICES, service_digest
from mercato import paths
from mercato.identity import identity
from mercato.settings import Settings
from mercato.stores.impressions import impressions_url
from mercato.stores.steps import timed
from training.errors import ArtefactMissing
from training.provenance import code_revision
from training.reads import READS
from training.record import contract_versions, record

ARTEFACTS: Mapping[str, str] = {
    "product_features": "rebuild_index",
    "keyword_index": "rebuild_index",
    "faiss_index": "rebuild_index",
    "query_lexicon": "rebuild_index",
    "search_fusion": "rebuild_index",
    "encoder": "train_embeddings",
    "tokenizer": "train_embeddings",
    "als": "train_als",
    "ease": "train_als",
    "user_knn": "train_als",
    "co_purchase": "train_als",
    "ranker_all": "train_ranker",
    "ranker_novel": "train_ranker",
}
"""Every artefact of a release -> the DAG that makes it."""
_FROM_SALES = ("train_als", "train_ranker")


def artefacts_of(shop: Shop) -> dict[str, str]:
    """Those of ARTEFACTS that the shop's releases have: without sales there is nothing to recommend from."""
    return {name: dag for name, dag in ARTEFACTS.items() if shop.sells or dag not in _FROM_SALES}


def extract_table(
    settings: Settings, table: str, since: datetime, until: datetime, *, look_again: bool = False
) -> dict[str, Any]:
    """Counts of one table's extraction into raw/, over what became known in [since, until).

    `look_again`: rows that raw lacks in a window extracted before arrive now, known from now on.
    """
    from mercato.clock import clock
    from training.extract import extract

    shop = load_shop(settings.shop).logging_to(events=settings.events(), impressions=impressions_url(settings))
    with timed(settings, "extract", table, since, until, code_revision=code_revision()):
        now = clock(settings)() if look_again else None
        return _plain(extract(paths.lake(settings), shop, table, since=since, until=until, observed_at=now))


def extract_arrived(settings: Settings, table: str, at: datetime) -> dict[str, Any]:
    """Counts of what files brought that were seen whole at `at`: days that are over and new, and late rows.

    Days after the newest extracted one, up to the local midnight before `at`, are extracted by the source's rule.
    What raw lacks of the days before arrives now: it is known at `at`; days that retention let go, and the overlap
    after them, are not looked over. `since` is the midnight of the first day before `until` that is not clean as raw
    has it now, whichever run extracted it, or None.
    """
    from training.extract import extract

    shop, lake = load_shop(settings.shop), paths.lake(settings)
    until = shop.last_midnight(at)
    gone = let_go(lake, "raw", table)
    extracted = {each.ds for each in manifests(lake, "raw", table) if each.history}
    days = sorted(extracted | quiet_days(lake, table) | set(gone))
    since = min(shop.day_bounds(days[-1])[1], until) if days else shop.window()[0]
    rows = late = 0
    told: dict[str, Any] = {}
    if since < until:
        told = extract_table(settings, table, since, until)
        rows = int(told["rows"])
    again = _after(shop, table, gone[-1]) if gone else shop.day_start(days[0]) if days else since
    if again < since:
        looked = extract(lake, shop, table, since=again, until=since, observed_at=at)
        late, told = looked.new_rows, told or _plain(looked)
    unclean = [day for day in _unclean(lake, table) if shop.day_start(day) < until]
    first = shop.day_start(unclean[0]).isoformat() if unclean else None
    seen = {name: told[name] for name in ("read", "outside_history", "outside_history_example") if told}
    return {"table": table, "since": first, "until": until.isoformat(), "rows": rows, "late_rows": late, **seen}


def _after(shop: Shop, table: str, gone: date) -> datetime:
    """The first midnight from which a table can be looked over without the rows of `gone`."""
    end = shop.day_bounds(gone)[1] + shop.table(table).known_at.overlap
    return shop.day_bounds(shop.business_day(end - timedelta(microseconds=1)))[1]


def _unclean(lake: paths.Lake, table: str) -> list[date]:
    """Days of raw, ascending, that clean/ lacks or has made from other raw rows."""
    made_from = {each.ds: each.inputs.get("raw") for each in manifests(lake, "clean", table)}
    return [each.ds for each in manifests(lake, "raw", table) if made_from.get(each.ds) != each.sha256]


def clean_table(
    settings: Settings, table: str, since: datetime, until: datetime, *, scheduled: bool = False
) -> dict[str, Any]:
    """Counts of one table's checks: clean, quarantined and duplicate rows known in [since, until).

    `scheduled`: the window is the one just over, so freshness and volume against the recent past are judged too.
    """
    from training.clean import clean

    shop = load_shop(settings.shop)
    with timed(settings, "clean", table, since, until, code_revision=code_revision()):
        people = identity(settings)
        lake = paths.lake(settings)
        return _plain(clean(lake, shop, table, people, since=since, until=until, scheduled=scheduled))


def snapshot_features(settings: Settings, at: datetime) -> dict[str, Any]:
    """Rows of each feature snapshot written for `at`."""
    from feature_repo.writer import write_snapshots

    with timed(settings, "snapshot", "features", at, at, code_revision=code_revision()):
        written = write_snapshots(paths.lake(settings), at)
    return {each.view: each.rows for each in written}


def materialize_features(settings: Settings, at: datetime, *, go_back: bool = False) -> dict[str, Any]:
    """Rows put online of each view, as of `at`; `go_back`: also where newer ones are online."""
    from feature_repo import store

    store.apply(settings)
    return {each.view: each.rows for each in store.materialize(settings, at, at, go_back=go_back)}


def build_dataset(settings: Settings, name: str, until: datetime) -> dict[str, Any]:
    """The version of a training dataset as of `until`, from the shop's first day on, and where its report lies."""
    from training.datasets.builder import Inputs
    from training.datasets.kinds import builder
    from training.datasets.versions import build, folder

    shop, lake = load_shop(settings.shop), paths.lake(settings)
    with timed(settings, "build", name, shop.window()[0], until, code_revision=code_revision()):
        made = build(builder(name), Inputs(lake, shop, shop.window()[0], until))
    said = made.model_dump(
        mode="json", include={"name", "version", "contract", "rows", "set_aside", "alarms", "sha256"}
    )
    return {**said, "report": f"{folder(lake, made.name, made.version)}/report.html"}


def fit_retrieval(settings: Settings, model: str, until: datetime) -> dict[str, Any]:
    """The ref of a retrieval model (als, ease, user_knn, co_purchase) fitted on purchases before `until`."""
    from training.fit import MODELS, fit_model

    lake = paths.lake(settings)
    fitted = fit_model(lake, model, until)
    ref = record(
        settings,
        model,
        fitted.save,
        kind=Kind.NPZ,
        fit_until=until,
        config=MODELS[model].model_dump(),
        snapshots=_snapshots(settings, model, until),
        metrics={"items": len(fitted.item_ids)},
    )
    return _said(ref)


def train_embeddings(settings: Settings, until: datetime) -> dict[str, Any]:
    """The refs of the encoder, its tokenizer and the vectors of every product text known before `until`.

    The encoder is the one that the last tuning chose, or the pretrained one where none was. It encodes the texts that
    the newest product vectors lack; they hold what it would make of the others (`embeddings.known_vectors`).
    """
    import tempfile
    from pathlib import Path

    from training import embeddings, encoder_choice
    from training.index import semantic_texts, write_vectors

    config = embeddings.EncoderConfig()
    told = config.model_dump()
    products = as_of(paths.lake(settings), "products", event_before=until, known_before=until).execute()
    texts = sorted(set(semantic_texts(products)))
    snapshots = _snapshots(settings, "product_vectors", until)
    with tempfile.TemporaryDirectory(prefix="mercato-") as folder:
        chosen = encoder_choice.newest(ArtefactStore(paths.lake(settings)), until, config.base_model)
        if chosen:
            model, tokenizer = chosen.encoder, chosen.tokenizer
            told |= {"encoder_choice": chosen.run_id, "search_pairs": chosen.pairs}
        else:
            model, tokenizer = embeddings.export_onnx(config, Path(folder))
        known = embeddings.known_vectors(ArtefactStore(paths.lake(settings)), until, paths.sha256_file(model))
        vectors = embeddings.encode_texts(config, model, tokenizer, texts, known)
        promised = Reproducible.QUALITY if chosen else Reproducible.BYTES
        keep = partial(record, settings, fit_until=until, config=told, snapshots={}, reproducible=promised)
        encoder = keep("encoder", _copy(model), kind=Kind.ONNX)
        keep("tokenizer", _copy(tokenizer), kind=Kind.TOKENIZER)
    ref = record(
        settings,
        "product_vectors",
        lambda path: write_vectors(path, texts, vectors, encoder=encoder.artefact.sha256, until=until),
        kind=Kind.NPZ,
        fit_until=until,
        config=told,
        snapshots=snapshots,
        metrics={"texts": len(texts), "encoded": len(set(texts) - known.keys())},
        reproducible=Reproducible.QUALITY,
    )
    return _said(ref)


def rebuild_index(settings: Settings, until: datetime) -> dict[str, Any]:
    """The refs of product features, keyword index, vector index and query lexicon as of `until`."""
    import tempfile
    from pathlib import Path

    from data_contracts.search_words import load_search_words
    from serving.runtime.keyword import IndexConfig
    from training import index, lexicon, query_log
    from training.fit import catalogue_rows, fit_catalogue

    lake = paths.lake(settings)
    snapshots = _snapshots(settings, "product_features", until)
    catalogue = fit_catalogue(settings, until)
    features = record(
        settings,
        "product_features",
        catalogue.save,
        kind=Kind.NPZ,
        fit_until=until,
        config={},
        snapshots=snapshots,
        metrics={"products": len(catalogue.product_ids)},
    )
    products = catalogue_rows(settings, until)
    ref = _need(ArtefactStore(lake), "product_vectors", until, "train_embeddings")
    texts, vectors, encoder = index.read_vectors(ArtefactStore(lake).fetch_one(ref.name, ref.artefact))
    texts, vectors = index.with_new_texts(products, texts, vectors, lambda: _encoder(ArtefactStore(lake), until))
    config = IndexConfig()
    keep = partial(record, settings, fit_until=until, config=config.model_dump(), snapshots=snapshots)
    with tempfile.TemporaryDirectory(prefix="mercato-") as folder:
        built = Path(folder) / "faiss_index"
        found = index.build_vector_index(vectors, built)
        keep("faiss_index", _copy(built), kind=Kind.FAISS, metrics={"recall_at_100": found})
    keep(
        "keyword_index",
        lambda path: index.build_keyword_index(products, texts, config, path, encoder=encoder, until=until),
        kind=Kind.NPZ,
    )
    words = load_search_words(settings.shop)
    known = lexicon.texts_of(catalogue, index.full_texts(products))
    digits = load_shop(settings.shop).minor_digits
    kept = lexicon.LexiconConfig()
    asked = query_log.customers_by_query(lake, until, timedelta(days=kept.lookback_days))
    made = lexicon.build_lexicon(known, words, minor_digits=digits, until=until, queries=asked, config=kept)
    record(
        settings,
        "query_lexicon",
        partial(lexicon.write_lexicon, made),
        kind=Kind.JSON,
        fit_until=until,
        config={**kept.model_dump(), "words_sha256": words.sha256()},
        snapshots=_snapshots(settings, "query_lexicon", until),
        metrics={"words": len(made.words), "suggestions": len(made.suggestions)},
    )
    return _said(features)


def build_ranker_rows(settings: Settings, until: datetime) -> dict[str, Any]:
    """What each ranker's rows look like, by goal, and the feedback; both lie in datasets/."""
    from training import dataset, feedback, fit
    from training import rows as ranker_rows

    lake = paths.lake(settings)
    shown = feedback.outcomes(lake, feedback.DEFAULT, until)
    fed = feedback.write(lake, feedback.DEFAULT, until, shown)
    built, pipeline = fit.ranker_rows(settings, until, shown)
    for goal, rows in built.items():
        with lake.writing(rows_path(lake, goal, until)) as aside:
            ranker_rows.save(rows, pipeline, aside)
    return {**{goal: dataset.digest(rows) for goal, rows in built.items()}, "feedback": _plain(fed)}


def train_ranker(settings: Settings, goal: str, until: datetime) -> dict[str, Any]:
    """The ref of the ranker for `goal` (all, novel), trained on the rows of `build_ranker_rows`."""
    from training import dataset, feedback, ranker
    from training import rows as ranker_rows

    lake = paths.lake(settings)
    path = rows_path(lake, goal, until)
    if not lake.exists(path):
        raise ArtefactMissing(f"found no ranker rows for {until.isoformat()} at {path}; run train_ranker's first task")
    rows, pipeline = ranker_rows.load(lake.local(path))
    config = ranker.NOVEL if goal == "novel" else ranker.ALL
    trained = ranker.train(config, rows, pipeline)
    said = dataset.digest(rows)
    ref = record(
        settings,
        f"ranker_{goal}",
        trained.save,
        kind=Kind.ONNX,
        fit_until=until,
        config={**config.model_dump(), "feedback": feedback.DEFAULT.model_dump()},
        snapshots=_snapshots(settings, f"ranker_{goal}", until),
        metrics={name: value for name, value in said.items() if isinstance(value, int | float)},
        feature_service=f"ranker_{goal}_v1",
    )
    return _said(ref)


def update_popularity(settings: Settings, until: datetime) -> dict[str, Any]:
    """Counts of the events that the five-minute job took from the log."""
    from training.popularity import update

    return asdict(update(settings, until))


def assemble_release(
    settings: Settings, until: datetime, *, loses: Callable[[Sequence[float], Sequence[float]], bool]
) -> dict[str, Any]:
    """The release made of the newest artefact of each name that saw nothing after `until`, loaded once to prove it.

    An intent model joins once there is one; where it `loses` to the live release's, that one stays.
    """
    from serving.runtime import artefacts, search
    from serving.runtime.intent import IntentModel
    from training.intent_live import intent_for_release

    store = ArtefactStore(paths.lake(settings))
    refs = {name: _need(store, name, until, dag) for name, dag in artefacts_of(load_shop(settings.shop)).items()}
    if intent := intent_for_release(settings, until, loses=loses):
        refs["intent"] = intent
    manifest = Manifest.of(
        ReleaseIdentity(
            shop=settings.shop,
            artefacts={name: ref.artefact for name, ref in refs.items()},
            feature_services={name: service_digest(name) for name in SERVICES if load_shop(settings.shop).sells},
            contracts=contract_versions(),
        ),
        Provenance(
            runs={name: ref.run_id for name, ref in refs.items()},
            snapshots={table: digest for ref in refs.values() for table, digest in ref.snapshots.items()},
            fit_until=max(ref.fit_until for ref in refs.values()),
            code_revision=code_revision(),
            dag_runs={name: ref.dag_run for name, ref in refs.items()},
            metrics={f"{name}.{each}": value for name, ref in refs.items() for each, value in ref.metrics.items()},
        ),
    )
    files = store.fetch(manifest)
    search.load(files, artefacts.load(files).catalogue)
    if "intent" in files:
        IntentModel.load(files["intent"])
    store.save_release(manifest)
    return {"release_id": manifest.release_id, "artefacts": len(refs), "fit_until": until.isoformat()}


def older_artefacts(settings: Settings, until: datetime) -> list[str]:
    """Artefacts of a release of which none is as of the midnight before `until`, or of `until` or between them.

    The encoder and its tokenizer are not asked for: indexes name the vectors that they were made with.
    """
    store, shop = ArtefactStore(paths.lake(settings)), load_shop(settings.shop)
    nightly = [name for name, dag in artefacts_of(shop).items() if dag != "train_embeddings"]
    refs = {name: store.newest_ref(name, until=until) for name in nightly}
    return [name for name, ref in refs.items() if ref is None or ref.fit_until < shop.last_midnight(until)]


def _encoder(store: ArtefactStore, until: datetime) -> Any:
    from serving.runtime.encoder import Encoder
    from training.embeddings import EncoderConfig

    model, tokenizer = (_need(store, name, until, "train_embeddings") for name in ("encoder", "tokenizer"))
    files = store.fetch_one("encoder", model.artefact), store.fetch_one("tokenizer", tokenizer.artefact)
    return Encoder.load(*files, threads=EncoderConfig().threads)


def rows_path(lake: paths.Lake, goal: str, until: datetime) -> str:
    """Where the rows of one goal's ranker with labels up to `until` lie."""
    return lake.path("datasets", f"ranker_rows_{goal}", f"until={until:%Y%m%dT%H%M%SZ}.npz")


def _need(store: ArtefactStore, name: str, until: datetime, dag: str) -> ArtefactRef:
    ref = store.newest_ref(name, until=until)
    if ref is None:
        raise ArtefactMissing(f"found no {name} fitted until {until.isoformat()} or before; run the DAG {dag} first")
    return ref


def _snapshots(settings: Settings, name: str, until: datetime) -> dict[str, str]:
    """Clean table that an artefact reads, of those that the shop has -> digest of what it read."""
    lake, had = paths.lake(settings), load_shop(settings.shop).tables
    digest = partial(snapshot_digest, lake, event_before=until, known_before=until)
    return {table: digest(table) for table in READS[name] if table in had}


def _copy(source: Any) -> Any:
    import shutil

    return lambda path: shutil.copyfile(source, path)


def _plain(report: Any) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(report).items()}


def _said(ref: ArtefactRef) -> dict[str, Any]:
    return {
        "name": ref.name,
        "sha256": ref.artefact.sha256,
        "fit_until": ref.fit_until.isoformat(),
        "run_id": ref.run_id,
        **ref.metrics,
    }
