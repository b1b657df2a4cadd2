"""Training datasets: versions named by their content, split without leaks, with a report for people."""

import ast
import hashlib
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_contracts.contract import load_contract
from data_contracts.datasets import dataset_names
from data_contracts.errors import SchemaMismatch, SourceMissing, TableRuleBroken
from data_contracts.lake import arrow_schema, as_of
from data_contracts.partitions import describe, encode, writing
from data_contracts.shop import Shop
from feature_repo.search_text import search_tokens
from mercato.cli import app
from mercato.paths import Lake
from mercato.settings import Settings
from tests.lake_maker import SAMPLE, make_identity, make_lake, sample_shop, tree
from training import jobs
from training.clean import clean
from training.datasets import search_pairs
from training.datasets.builder import SPLIT, Builder, Inputs
from training.datasets.kinds import BUILDERS
from training.datasets.splits import LeakageFound, check_leakage, with_splits
from training.datasets.versions import build, newest_rows, versions
from training.errors import BadConfig, NotEnoughData
from training.extract import extract
from training.index import semantic_texts

REVIEWS = SAMPLE.parent / "reviews_300.parquet"
RECOMMENDATION = BUILDERS["recommendation_examples"]
INTENT = BUILDERS["intent_examples"]
HOSTILE = "<script>window.hacked=1</script>"
UNTIL = datetime(2017, 2, 6, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Shop]:
    """Five weeks of the 300 real households, clean."""
    folder = tmp_path_factory.mktemp("datasets")
    shop, lake, people = sample_shop(), make_lake(folder), make_identity(folder)
    for table in ("products", "transactions"):
        window = {"since": shop.window()[0], "until": UNTIL}
        extract(lake, shop, table, **window)
        clean(lake, shop, table, people, **window)
    return lake, shop


@pytest.fixture(scope="module")
def given(place: tuple[Lake, Shop]) -> Inputs:
    lake, shop = place
    return Inputs(lake, shop, shop.window()[0], UNTIL)


def labelled(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV of labelled messages."""
    file = folder / "intents.csv"
    pd.DataFrame([{"label_source": "hand", **row} for row in rows]).to_csv(file, index=False)
    return file


def rows_of(made: Any, given: Inputs, file: str = "rows") -> pd.DataFrame:
    path = given.lake.path("datasets", made.name, made.version, f"{file}.parquet")
    return pq.read_table(path, partitioning=None).to_pandas()


def test_every_builder_has_a_contract_of_its_name() -> None:
    """What is built is agreed."""
    assert set(BUILDERS) <= set(dataset_names())


def test_every_dataset_made_of_clean_tables_is_built_by_the_dag() -> None:
    """`build_datasets`, which may import no builder while it is parsed, names the tables that the builders read."""
    reads = {each.name: each.reads for each in BUILDERS.values() if each.reads}
    tree = ast.parse((SAMPLE.parents[2] / "dags" / "build_datasets.py").read_text())
    said = [each.value for each in tree.body if isinstance(each, ast.Assign)]
    assert [ast.literal_eval(each) for each in said] == [reads]


def test_the_job_says_where_the_report_lies(
    place: tuple[Lake, Shop], given: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on the asset's event: the version, its rows and the path of its HTML report."""
    lake, shop = place
    monkeypatch.setattr(jobs, "load_shop", lambda _name: shop)
    settings = Settings(home=Path(lake.root).parent, data_url=str(Path(lake.root)))
    said = jobs.build_dataset(settings, "product_corpus", UNTIL)
    (made,) = [each for each in versions(lake, "product_corpus") if each.version == said["version"]]
    assert (said["rows"], said["sha256"]) == (made.rows, made.sha256)
    assert Path(said["report"]).read_text().startswith("<!")
    assert made.since == given.since


def test_recommendation_examples_are_split_by_time(given: Inputs) -> None:
    """Real sessions: 60/20/20 at local midnights, every split later than the one before it, twice the same bytes."""
    made = build(RECOMMENDATION, given)
    before = tree(given.lake)
    assert build(RECOMMENDATION, given) == made
    assert tree(given.lake) == before
    rows = rows_of(made, given)
    assert made.rows == len(rows) > 5_000
    assert made.read == made.rows + made.between_splits, "baskets of the last quarter of an hour are between splits"
    assert made.between_splits > 0
    assert [round(part.rows / made.rows, 1) for part in made.splits.values()] == [0.6, 0.2, 0.2]
    assert [each.hour for each in made.cuts] == [5, 5]
    times = rows.groupby(SPLIT)["event_time"]
    assert times.max()["train"] < made.cuts[0] <= times.min()["validation"]
    assert times.max()["validation"] < made.cuts[1] <= times.min()["test"]
    assert versions(given.lake, made.name) == [made]
    assert newest_rows(given.lake, made.name, until=UNTIL, split="test").num_rows == made.splits["test"].rows
    assert newest_rows(given.lake, made.name, until=UNTIL - timedelta(days=1)) is None


def test_the_context_is_what_was_known_before(given: Inputs) -> None:
    """For one household by hand: baskets before this one that had reached us when it began."""
    rows = rows_of(build(RECOMMENDATION, given), given)
    sales = as_of(given.lake, "transactions", event_before=UNTIL, known_before=UNTIL).execute()
    baskets = sales.groupby(["customer_key", "basket_id"]).agg(
        at=("event_time", "min"), known=("known_at", "max"), lines=("product_id", "size")
    )
    busy = rows["customer_key"].value_counts().index[0]
    own = baskets.loc[busy]
    for session, group in rows[rows["customer_key"] == busy].groupby("session_id"):
        at = own.loc[session, "at"]
        past = own[own["known"] < at]
        assert (group["past_sessions"] == len(past)).all()
        assert (group["past_lines"] == past["lines"].sum()).all()
        assert (group["event_time"] == at).all()
    assert (rows["context_known_at"].isna() | (rows["context_known_at"] < rows["event_time"])).all()


def test_visits_to_the_site_become_examples(given: Inputs, tmp_path: Path) -> None:
    """What was shown and clicked is a negative with its click, what was bought a positive; simulated events are out."""
    shutil.copytree(given.lake.root, tmp_path, dirs_exist_ok=True)
    lake = make_lake(tmp_path)
    sold = as_of(lake, "transactions", event_before=UNTIL, known_before=UNTIL).execute()
    one, two = sorted(sold["product_id"].unique())[:2]
    customer, at = sold["customer_key"].iloc[0], UNTIL - timedelta(hours=2)
    events = [
        ("impression", one, "v1", "real"),
        ("click", one, "v1", "real"),
        ("impression", two, "v1", "real"),
        ("purchase", two, "v1", "real"),
        ("click", one, "v2", "simulated"),
    ]
    contract = load_contract("interactions")
    empty = dict.fromkeys(each.name for each in contract.columns)
    rows = [
        {
            **empty,
            "event_id": f"e{n}",
            "type": kind,
            "product_id": product,
            "session_id": session,
            "origin": origin,
            "customer_key": customer,
            "event_time": at + timedelta(minutes=n),
            "known_at": at + timedelta(minutes=n),
        }
        for n, (kind, product, session, origin) in enumerate(events)
    ]
    table = pa.Table.from_pylist(rows, arrow_schema(contract))
    data, day = encode(table), given.shop.business_day(at)
    with writing(lake) as out:
        known = {"table": "interactions", "layer": "clean", "ds": day, "contract": contract.label, "inputs": {}}
        out.put(data, describe(table, data, **known))
    here = replace(given, lake=lake)
    found = rows_of(build(RECOMMENDATION, here), here)
    found = found[found["label_source"] == "interactions"].set_index("product_id")
    assert set(found["session_id"]) == {"v1"}
    assert found["clicked"].to_dict() == {one: True, two: False}
    assert found["purchased"].to_dict() == {one: False, two: True}
    past = sold[(sold["customer_key"] == customer) & (sold["known_at"] < at)]
    assert set(found["past_sessions"]) == {past["basket_id"].nunique()}
    assert set(found["event_time"]) == {pd.Timestamp(at)}


def test_search_pairs_of_days_before_the_first_search_are_made(given: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop that logs since last week backfills last year: nothing was searched then, which is no missing table."""

    def nothing_yet(*_: Any, **__: Any) -> Any:
        raise SourceMissing("found no partition of interactions")

    monkeypatch.setattr(search_pairs, "as_of", nothing_yet)
    assert search_pairs._searches(given.lake, given) == []


def test_search_pairs_come_from_products_and_baskets(given: Inputs) -> None:
    """The shop has neither names nor queries: types and brands ask, and products of the same baskets and department.

    Every query is of its product's own words, or a product's text; the noisy ones are told apart.
    """
    made = build(BUILDERS["search_pairs"], given)
    rows = rows_of(made, given)
    assert set(rows["origin"]) == {"attribute", "co_purchase"}
    assert made.set_aside == made.duplicates == made.between_splits == 0
    products = as_of(given.lake, "products", event_before=UNTIL, known_before=UNTIL).execute()
    told = dict(zip(products["product_id"], semantic_texts(products), strict=True))
    plain = rows[(rows["origin"] == "attribute") & ~rows["noisy"]]
    assert len(plain) > 1_000
    for query, product in plain[["query", "product_id"]].itertuples(index=False):
        assert set(search_tokens(query)) <= set(search_tokens(told[product]))
    assert 0.1 < rows["noisy"].mean() < 0.2


def test_a_planted_future_row_fails_the_build(given: Inputs) -> None:
    """A context that was known only after the session breaks `context_from_the_past`; nothing is written."""

    def planted(inputs: Inputs) -> pa.Table:
        rows = RECOMMENDATION.rows(inputs).to_pandas()
        rows.loc[0, "context_known_at"] = rows.loc[0, "event_time"] + timedelta(seconds=1)
        return pa.Table.from_pandas(rows, preserve_index=False)

    before = tree(given.lake)
    with pytest.raises(TableRuleBroken, match=r"rows_sound.*context_from_the_past"):
        build(replace(RECOMMENDATION, rows=planted), given)
    assert tree(given.lake) == before


def frame(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Sessions with their event and when they became known (January 2017)."""
    days = [(session, pd.Timestamp(f"2017-01-{at}", tz="UTC"), pd.Timestamp(f"2017-01-{known}", tz="UTC"))
            for session, at, known in rows]  # fmt: skip
    made = pd.DataFrame(days, columns=["session_id", "event_time", "known_at"])
    never = pd.Series(pd.NaT, index=made.index, dtype="datetime64[us, UTC]")
    times = dict.fromkeys(("event_time", "known_at"), "datetime64[us, UTC]")
    return made.astype(times).assign(context_known_at=never, last_session_at=never)


def test_a_row_known_after_its_split_is_in_none() -> None:
    """Eleven sessions, 60/20/20: rows 0.6 * 11 = 6 and 0.8 * 11 = 8 are of the 6th and 8th, whose midnights cut.

    What happened on the 3rd and became known on the 8th trains nothing.
    """
    rows = frame(*[(f"s{day}", f"{day:02}T12", f"{day:02}T13") for day in range(1, 11)], ("late", "03T12", "08T12"))
    split, cuts = with_splits(rows, RECOMMENDATION, sample_shop())
    named = split.set_index("session_id")[SPLIT]
    assert [each.isoformat() for each in cuts] == ["2017-01-06T05:00:00+00:00", "2017-01-08T05:00:00+00:00"]
    assert [named[f"s{day}"] for day in range(1, 11)] == ["train"] * 5 + ["validation"] * 2 + ["test"] * 3
    assert pd.isna(named["late"])


def test_leaks_are_found_with_examples() -> None:
    """One session on two sides; a feature of train known when validation had begun."""
    rows = frame(("a", "01T12", "01T13"), ("a", "05T12", "05T13"))
    cuts = [datetime(2017, 1, 3, tzinfo=UTC), datetime(2017, 1, 8, tzinfo=UTC)]
    sides = rows.assign(split=["train", "validation"])
    with pytest.raises(LeakageFound, match=r"1 values of session_id are in more than one split.*'session_id': 'a'"):
        check_leakage(sides, RECOMMENDATION, RECOMMENDATION.contract, cuts, UNTIL)
    rows["session_id"] = ["a", "b"]
    rows.loc[0, "context_known_at"] = pd.Timestamp("2017-01-04", tz="UTC")
    with pytest.raises(LeakageFound, match=r"1 rows of train have a context_known_at at or after.*2017-01-03"):
        check_leakage(rows.assign(split=["train", "validation"]), RECOMMENDATION, RECOMMENDATION.contract, cuts, UNTIL)


def test_one_text_lies_on_one_side(given: Inputs, tmp_path: Path) -> None:
    """However it is spelt, a message goes to the same split: 70/15/15 of groups, planted leaks are found."""
    digests = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(400)]
    texts = [" ".join(each[at : at + 5] for at in range(0, 30, 5)) for each in digests]
    rows = [{"text": text, "intent": "track"} for text in texts]
    rows += [{"text": f"{text.upper()}?", "intent": "track"} for text in texts]
    made = build(INTENT, replace(given, file=labelled(tmp_path, rows)))
    shares = [part.rows / made.rows for part in made.splits.values()]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.06)
    found = rows_of(made, given)
    leaky = found.assign(split=["train", "test"] * 400)
    with pytest.raises(LeakageFound, match="values of group_id are in more than one split"):
        check_leakage(leaky, INTENT, INTENT.contract, [], UNTIL)


def test_another_end_is_another_version(given: Inputs, tmp_path: Path) -> None:
    """The same file as of two days: both versions stay, and who asks as of the first day gets the first.

    Of several files as of one day, the one that was built last is the newest.
    """
    at = "2017-01-10T00:00:00Z"
    rows = [{"text": f"hello {n}", "intent": "greeting", "event_time": at, "known_at": at}
            for n in range(60)]  # fmt: skip
    here = replace(given, lake=make_lake(tmp_path), file=labelled(tmp_path, rows))
    first = build(INTENT, here)
    second = build(INTENT, replace(here, until=UNTIL + timedelta(days=7)))
    assert first.sha256 == second.sha256
    assert versions(here.lake, INTENT.name) == [first, second]
    assert newest_rows(here.lake, INTENT.name, until=UNTIL).num_rows == 60
    for some in (rows[:50], rows[:40], rows[:50]):
        made = build(INTENT, replace(here, file=labelled(tmp_path, some)))
        assert newest_rows(here.lake, INTENT.name, until=UNTIL).num_rows == made.rows == len(some)


def test_a_shop_without_known_customers_is_told_so() -> None:
    """Nothing to split by time is an error that names the tables."""
    with pytest.raises(NotEnoughData, match=r"found no row that holds.*clean transactions.*known customers"):
        with_splits(frame(), RECOMMENDATION, sample_shop())


def test_only_checks_that_can_fail_are_reported() -> None:
    """A dataset whose rows are all for training has no sides; one that is split by text promises nothing of times."""
    row = frame(("a", "01T12", "01T13")).assign(text="hello", product_id="p", split="train")
    corpus = BUILDERS["product_corpus"]
    assert check_leakage(row, corpus, corpus.contract, [], UNTIL) == {}
    reviews = BUILDERS["customer_feedback"]
    assert check_leakage(row, reviews, reviews.contract, [], UNTIL) == {"text on one side only": "1 values"}


def test_bad_labels_are_set_aside_and_counted(given: Inputs, tmp_path: Path) -> None:
    """Rows read = kept + set aside + duplicates: two labels for one text are both out, a repeat counts once."""
    rows = [
        {"text": "hello", "intent": "greeting"},
        {"text": "hello", "intent": "greeting"},
        {"text": "track it", "intent": "track"},
        {"text": "track it", "intent": "cart"},
        {"text": " ", "intent": "greeting"},
        {"text": "bye", "intent": "Good Bye"},
        {"text": HOSTILE, "intent": "browse"},
    ]
    made = build(INTENT, replace(given, file=labelled(tmp_path, rows)))
    assert (made.read, made.rows, made.set_aside, made.duplicates) == (7, 2, 4, 1)
    assert made.broken == {"key_conflict": 2, "intent_is_a_name": 1, "text_not_empty": 1}
    aside = rows_of(made, given, "set_aside")
    assert sorted(aside["broken_rules"]) == ["intent_is_a_name", "key_conflict", "key_conflict", "text_not_empty"]


def test_a_file_without_its_columns_is_refused(given: Inputs, tmp_path: Path) -> None:
    """The message names the columns; without a file it says so."""
    (tmp_path / "other.csv").write_text("words,intent\nhi,greeting\n")
    with pytest.raises(SchemaMismatch, match=r"missing columns \['text', 'label_source'\]"):
        build(INTENT, replace(given, file=tmp_path / "other.csv"))
    with pytest.raises(BadConfig, match="pass --file"):
        build(BUILDERS["customer_feedback"], given)


def test_an_unbalanced_dataset_raises_an_alarm(given: Inputs, tmp_path: Path) -> None:
    """One farewell among 400 messages is 0.25 %: named, and still written."""
    rows = [{"text": f"hello {n}", "intent": "greeting"} for n in range(399)] + [{"text": "bye", "intent": "farewell"}]
    made = build(INTENT, replace(given, file=labelled(tmp_path, rows)))
    assert "intents_balanced: found 0.25 percent, 'farewell' has 1 of 400 rows, need >= 0.5" in made.alarms[0]


def test_real_reviews_become_feedback(given: Inputs) -> None:
    """300 real reviews, some without a text: those are set aside, the rest is split, no text on two sides."""
    made = build(BUILDERS["customer_feedback"], replace(given, file=REVIEWS))
    empty = int(pd.read_parquet(REVIEWS)["text"].isna().sum())
    assert (made.read, made.set_aside, made.broken) == (300, empty, {"text_missing": empty})
    assert made.measured["ratings_balanced"] > 1
    assert set(rows_of(made, given)["rating"]) == {1, 2, 3, 4, 5}


def test_the_corpus_holds_every_known_product(given: Inputs) -> None:
    """One row per product, with the text that search reads and what a unit cost in the last four weeks."""
    made = build(BUILDERS["product_corpus"], given)
    rows = rows_of(made, given).set_index("product_id")
    assert set(rows[SPLIT]) == {"train"}
    recent = as_of(
        given.lake, "transactions", event_before=UNTIL, known_before=UNTIL, since=UNTIL - timedelta(days=28)
    ).execute()
    best = recent["product_id"].value_counts().index[0]
    sold = recent[recent["product_id"] == best]
    assert rows.loc[best, "price_minor"] == round(sold["sales_minor"].sum() / sold["quantity"].sum())
    assert rows.loc[best, "product_type"].lower().split()[0] in rows.loc[best, "text"]


def test_the_report_is_one_file_and_shows_no_secret(given: Inputs, tmp_path: Path) -> None:
    """No script, nothing from elsewhere, hostile text escaped, confidential values left out, every rule named."""
    rows = [{"text": f"{HOSTILE} {n}", "intent": f"{HOSTILE}"} for n in range(3)]
    rows += [{"text": f"hello {n}", "intent": "greeting"} for n in range(60)]
    made = build(INTENT, replace(given, file=labelled(tmp_path, rows)))
    page = Path(given.lake.path("datasets", made.name, made.version, "report.html")).read_text()
    assert "<script" not in page
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert "&lt;script&gt;" in page, "the label of a row set aside is shown, escaped"
    assert "hello" not in page, "texts are confidential"
    for rule in INTENT.contract.table_rules:
        assert rule.name in page
    assert made.version in page


def test_the_command_builds_and_lists(given: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mercato dataset build` prints the manifest and where the report lies; `list` shows it."""
    monkeypatch.setenv("MERCATO_DATA_URL", given.lake.root)
    asked = ["dataset", "build", "customer_feedback", "--until", UNTIL.isoformat(), "--file", str(REVIEWS)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "report.html" in result.stdout
    listed = CliRunner().invoke(app, ["dataset", "list", "customer_feedback"])
    assert '"rows"' in listed.stdout
    assert CliRunner().invoke(app, ["dataset", "build", "nothing", "--until", "2017-02-06"]).exit_code == 65


def test_a_builder_is_small() -> None:
    """One dataset is a handful of facts and one function."""
    assert all(isinstance(each, Builder) and sum(each.shares) == pytest.approx(1) for each in BUILDERS.values())
