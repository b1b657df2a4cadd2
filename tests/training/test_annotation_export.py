"""Messages go out once, without personal data, near-duplicates as one, by a declared mix."""

import csv
import io
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import SchemaMismatch
from data_contracts.events import Event
from data_contracts.release import Kind
from data_contracts.shop import load_shop
from mercato.clock import frozen
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores.events import EventLog, EventRow, microseconds
from mercato.stores.routing import routing_store
from serving.runtime.intent import IntentModel
from tests.forks import PUT_IN_PLACE, ended, fork, killed
from tests.lake_maker import finished, make_identity, make_lake, tree
from tests.training.annotation_maker import LABELS, TRUTH, UNTIL, WRITTEN, messages, put_clean, searches, tasks
from tests.training.small_intent import release_of, small_intent
from training.annotation.batches import folder
from training.annotation.choose import choose
from training.annotation.config import EXPORT, ExportConfig
from training.annotation.export import Exported, export, export_errors
from training.annotation.jobs import intent_models
from training.annotation.pool import Message, message_id, pool
from training.clean import clean
from training.extract import extract

LOOKBACK = timedelta(days=28)
TEXTS = list(TRUTH)


class Model:
    """Says what it was told to: (label, confidence) of a text, `greeting` by half of everything else."""

    def __init__(self, name: str, said: dict[str, tuple[str, float]]) -> None:
        self.name = name
        self.said = said

    def classify(self, texts: Sequence[str]) -> Sequence[tuple[str, float]]:
        return [self.said.get(text, ("greeting", 0.5)) for text in texts]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A shop whose shoppers searched and wrote each of the texts, half and half."""
    made = make_lake(tmp_path)
    searches(made, TEXTS[:10])
    messages(made, TEXTS[10:])
    return made


def message(text: str, language: str = "en", channel: str = "chat", written: int = 1) -> Message:
    return Message(message_id(text), text, channel, language, written, UNTIL)


def test_the_pool_is_what_people_wrote_without_personal_data(tmp_path: Path) -> None:
    """Searches and messages, each text once with how often it came, and nothing from the future."""
    lake = make_lake(tmp_path)
    texts = ["Red  Shoes", "red shoes", "my mail is asha@example.com", "who is Sylvanian Families"]
    searches(lake, texts)
    messages(lake, ["red shoes", "ऑर्डर कहाँ है", "kaha hai mera order 9876543210"])
    product = {"product_id": "p", "name": "Sylvanian Families house"}
    put_clean(lake, "products", [product])
    found = {each.text: each for each in pool(lake, LABELS.languages, UNTIL, LOOKBACK)}
    assert set(found) == {
        "Red Shoes", "my mail is <EMAIL>", "who is Sylvanian Families", "ऑर्डर कहाँ है", "kaha hai mera order 9876543210"
    }  # fmt: skip
    assert found["Red Shoes"].written == 3
    assert (found["Red Shoes"].channel, found["ऑर्डर कहाँ है"].channel) == ("search", "chat")
    assert Counter(each.language for each in found.values()) == {"en": 3, "hi": 1, "hinglish": 1}
    assert pool(lake, LABELS.languages, UNTIL - timedelta(days=3), LOOKBACK) == []


def test_simulated_searches_are_not_asked_about(tmp_path: Path) -> None:
    """Annotators label what people wrote."""
    lake = make_lake(tmp_path)
    searches(lake, TEXTS, origin="simulated")
    assert export(lake, LABELS, UNTIL, EXPORT).batch is None


def test_a_batch_is_exported_once_and_twice_the_same(lake: Lake, tmp_path: Path) -> None:
    """The same run again leaves every byte; another lake with the same messages gets the same files; later, nothing."""
    made = export(lake, LABELS, UNTIL, EXPORT).batch
    assert made is not None
    assert (made.tasks, made.chosen) == (20, {"random": 20})
    before = tree(lake)
    assert export(lake, LABELS, UNTIL, EXPORT).batch == made
    assert tree(lake) == before
    later = export(lake, LABELS, UNTIL + timedelta(days=1), EXPORT)
    assert (later.batch, later.note) == (None, "found 20 messages in 28 days, none of them new")
    other = make_lake(tmp_path / "other")
    searches(other, TEXTS[:10])
    messages(other, TEXTS[10:])
    assert export(other, LABELS, UNTIL, EXPORT).batch == made
    assert tree(other) == before


def test_the_files_are_what_label_studio_reads(lake: Lake) -> None:
    """JSON, CSV and labelling config agree; no personal data, the live model's label as prediction with its score."""
    model = Model("intent 3", {"parcel was due yesterday": ("track", 0.75)})
    made = export(lake, LABELS, UNTIL, EXPORT, [model]).batch
    assert made is not None
    home = Path(folder(lake, made.batch))
    given = tasks(lake, made.batch)
    texts = [each["data"]["text"] for each in given]
    assert len(set(texts)) == 20
    assert "the lid came cracked, call me on <PHONE>" in texts
    assert "has my order 9876543210 left the warehouse" in texts
    (track,) = [each for each in given if each["data"]["text"] == "parcel was due yesterday"]
    (said,) = track["predictions"]
    assert (said["model_version"], said["score"]) == ("intent 3", 0.75)
    assert [(each["from_name"], each["to_name"], each["type"], each["value"]) for each in said["result"]] == [
        ("intent", "text", "choices", {"choices": ["track"]})
    ]
    config = ET.fromstring((home / "labelling_config.xml").read_text(encoding="utf-8"))
    controls = {each.get("name"): [choice.get("value") for choice in each] for each in config.iter("Choices")}
    assert controls == {"intent": list(LABELS.names), "language": list(LABELS.languages)}
    assert {each.get("toName") for each in config.iter("Choices")} == {"text"}
    assert [each.get("value") for each in config.iter("Text")] == ["$text"]
    rows = list(csv.DictReader(io.StringIO((home / "tasks.csv").read_text(encoding="utf-8"))))
    assert [row["text"] for row in rows] == texts
    assert [row["predicted"] for row in rows if row["text"] == "parcel was due yesterday"] == ["track"]


def test_the_mix_is_the_declared_one() -> None:
    """Of ten tasks two are disputed, the surest first, three unsure, the least sure first, five drawn at random."""
    words = ["anvil", "bucket", "candle", "drum", "easel", "funnel", "goblet", "hammer", "inkwell", "jigsaw", "kettle"]
    found = [message(f"{word} {word[::-1]}") for word in [*words, "lantern", "mallet", "napkin", "oboe"]]
    sure = {each.text: ("browse", 0.9) for each in found}
    unsure = {found[n].text: ("browse", n / 100) for n in range(4)}
    live = Model("live", {**sure, **unsure, found[8].text: ("cart", 0.95)})
    other = Model("cheap", {**sure, found[9].text: ("help", 0.6)})
    config = ExportConfig(tasks=10)
    chosen = {each.message.text: each.reason for each in choose(found, [], [live, other], config, UNTIL)}
    assert len(chosen) == 10
    by = {reason: {text for text, why in chosen.items() if why == reason} for reason in set(chosen.values())}
    assert by["disagreement"] == {found[8].text, found[9].text}
    assert by["uncertain"] == {found[0].text, found[1].text, found[2].text}
    assert len(by["random"]) == 5
    alone = Counter(each.reason for each in choose(found, [], [live], config, UNTIL))
    assert alone == {"uncertain": 3, "random": 7}
    assert choose(found, [], [live], config, UNTIL) == choose(found[::-1], [], [live], config, UNTIL)
    other_draw = choose(found, [], [live], ExportConfig(tasks=10, seed=18), UNTIL)
    assert {each.message for each in other_draw} != {each.message for each in choose(found, [], [live], config, UNTIL)}


def test_the_random_draw_takes_from_every_stratum() -> None:
    """Two messages in Hindi among sixty in English are in a draw of six."""
    english = [message(f"{chr(97 + n % 26) * 3} {n * 7919} {chr(122 - n % 26) * 4}") for n in range(60)]
    hindi = [message("मेरा सामान कब आएगा", "hi"), message("लाल साड़ी दिखाओ", "hi")]
    config = ExportConfig(tasks=6, random_share=1, uncertain_share=0, disagreement_share=0)
    drawn = choose([*english, *hindi], [], [], config, UNTIL)
    assert Counter(each.message.language for each in drawn) == {"en": 4, "hi": 2}


def test_near_duplicates_are_one_task() -> None:
    """The one written most stands for them; one alike to a known text is not asked about again."""
    found = [message("where is my parcel", written=3), message("where is my parcel??"), message("add two mangoes")]
    (one, two) = choose(found, [], [], EXPORT, UNTIL)
    assert {one.message.text: one.alike, two.message.text: two.alike} == {"where is my parcel": 1, "add two mangoes": 0}
    assert [each.message.text for each in choose(found, ["Where is my parcel!"], [], EXPORT, UNTIL)] == [
        "add two mangoes"
    ]


def test_a_mix_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"add up to 1\.1, need 1"):
        ExportConfig(random_share=0.6)


def test_no_new_batch_while_too_many_wait(lake: Lake) -> None:
    """Annotators are not buried; the note names what waits."""
    small = ExportConfig(tasks=3, open_batches=2)
    first, second = (export(lake, LABELS, UNTIL + timedelta(days=n), small).batch for n in range(2))
    assert first is not None
    assert second is not None
    assert {each["data"]["text"] for each in tasks(lake, first.batch)}.isdisjoint(
        each["data"]["text"] for each in tasks(lake, second.batch)
    )
    third = export(lake, LABELS, UNTIL + timedelta(days=2), small)
    assert third.batch is None
    assert third.note == f"2 batches wait for their annotations: {first.batch}, {second.batch}"
    newer = LABELS.model_copy(update={"version": "2.0.0"})
    assert export(lake, newer, UNTIL + timedelta(days=2), small).batch is not None, "nobody can import the old ones"


def test_errors_of_a_model_are_asked_about_again(lake: Lake, tmp_path: Path) -> None:
    """Also texts that were exported before, redacted, with what the model said; a file without `text` is refused."""
    export(lake, LABELS, UNTIL, EXPORT)
    file = tmp_path / "errors.csv"
    file.write_text(
        "text,predicted,confidence,model\nparcel was due yesterday,help,0.8,intent 3\nmail asha@example.com now,,,\n"
    )
    made = export_errors(lake, LABELS, UNTIL, file).batch
    assert made is not None
    assert (made.kind, made.chosen) == ("errors", {"error": 2})
    first, second = tasks(lake, made.batch)
    assert (first["data"]["text"], second["data"]["text"]) == ("parcel was due yesterday", "mail <EMAIL> now")
    assert first["predictions"][0]["result"][0]["value"] == {"choices": ["help"]}
    assert "predictions" not in second
    before = tree(lake)
    for later in (UNTIL, UNTIL + timedelta(hours=1)):
        assert export_errors(lake, LABELS, later, file) == Exported(made, "exported before")
    assert tree(lake) == before
    with pytest.raises(SchemaMismatch, match=r"nowhere\.csv"):
        export_errors(lake, LABELS, UNTIL, tmp_path / "nowhere.csv")
    paragraphs = tmp_path / "errors.jsonl"
    paragraphs.write_text('{"text": "where is\u2028my other parcel"}\n')
    made = export_errors(lake, LABELS, UNTIL, paragraphs).batch
    assert made is not None
    assert [each["data"]["text"] for each in tasks(lake, made.batch)] == ["where is my other parcel"]
    put_clean(lake, "products", [{"product_id": "p", "name": "Sylvanian Families house"}])
    file.write_text("text\nwho is Sylvanian Families\n")
    made = export_errors(lake, LABELS, UNTIL, file).batch
    assert made is not None
    assert [each["data"]["text"] for each in tasks(lake, made.batch)] == ["who is Sylvanian Families"]
    file.write_text("words\nhello\n")
    with pytest.raises(SchemaMismatch, match=r"missing columns \['text'\]"):
        export_errors(lake, LABELS, UNTIL, file)


def test_a_kill_leaves_no_half_batch_and_two_at_once_make_one(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file came last, the next run leaves what an undisturbed one leaves."""
    found = pool(lake, LABELS.languages, UNTIL, LOOKBACK)
    monkeypatch.setattr("training.annotation.export.pool", lambda *_: found)  # DuckDB's threads do not survive a fork
    whole = make_lake(tmp_path / "whole")
    searches(whole, TEXTS[:10])
    messages(whole, TEXTS[10:])
    made = export(whole, LABELS, UNTIL, EXPORT).batch
    assert killed(lambda: export(lake, LABELS, UNTIL, EXPORT), 2, PUT_IN_PLACE) == -9
    assert len([path for path in finished(lake) if "batches" in path]) == 2
    both = [fork(lambda: export(lake, LABELS, UNTIL, EXPORT)) for _ in range(2)]
    assert [ended(each) for each in both] == [0, 0]
    assert export(lake, LABELS, UNTIL, EXPORT).batch == made
    assert finished(lake) == finished(whole)


def test_a_search_that_a_client_sent_reaches_the_pool(tmp_path: Path) -> None:
    """From the event log through raw/ and clean/; only searches carry a query."""
    event = {"event_id": "e1", "type": "search", "session_id": "s", "event_time": WRITTEN, "query": "Red shoes"}
    with pytest.raises(ValidationError, match="a click has no query"):
        Event.model_validate({**event, "type": "click", "product_id": "p"})
    found = Event.model_validate(event)
    at = microseconds(found.event_time)
    row = EventRow("e1", found.type, None, "s", None, None, None, None, None, at, "real", None, None, found.query)
    log = EventLog(f"sqlite:///{tmp_path / 'events'}.db", frozen(WRITTEN))
    log.append([row]).result()
    log.close()
    shop, lake = load_shop("complete_journey").reading_from(tmp_path), make_lake(tmp_path / "data")
    window = {"since": shop.day_start(shop.business_day(WRITTEN)), "until": UNTIL}
    extract(lake, shop, "interactions", **window)
    clean(lake, shop, "interactions", make_identity(tmp_path), **window)
    (one,) = pool(lake, LABELS.languages, UNTIL, LOOKBACK)
    assert (one.text, one.channel, one.event_time) == ("Red shoes", "search", WRITTEN)


def test_the_live_model_is_asked(lake: Lake, tmp_path: Path) -> None:
    """What the live release's intent model says goes out; else the newest one's that saw no later labels."""
    settings = Settings(home=tmp_path, data_url=lake.root)
    store, model = ArtefactStore(lake), small_intent()
    at = {"newest": UNTIL.isoformat(), "live": (UNTIL - LOOKBACK).isoformat()}
    kept = {
        name: store.put(IntentModel({**model.meta, "fit_until": seen}, model.words).save(tmp_path / "intent"), Kind.NPZ)
        for name, seen in at.items()
    }
    store.write_ref(ArtefactRef(name="intent", artefact=kept["newest"], fit_until=UNTIL, run_id="", snapshots={}))
    (asked,) = intent_models(settings, UNTIL)
    assert asked.name == f"intent-{kept['newest'].sha256[:12]}"
    assert [label for label, _ in asked.classify(["where is my parcel", "hello there"])] == ["track", "greeting"]
    assert intent_models(settings, UNTIL - timedelta(seconds=1)) == []
    weights = {release_of(store, {"intent": kept["live"]}): 10_000}
    routing_store(settings).write(lake.shop, seen=0, weights=weights, salt="s", reason="t", at=UNTIL)
    for until in (UNTIL, UNTIL - LOOKBACK):
        (asked,) = intent_models(settings, until)
        assert asked.name == f"intent-{kept['live'].sha256[:12]}"
    assert intent_models(settings, UNTIL - LOOKBACK - timedelta(seconds=1)) == []
