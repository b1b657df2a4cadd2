"""Query understanding over a small catalogue whose counts are written here, so that expectations can be worked out."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import ArtefactRefused, BadShop
from data_contracts.search_words import load_search_words
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.prices import price_bounds
from serving.runtime.query.relax import softer
from serving.runtime.query.understand import STEPS, understand
from serving.runtime.understanding import Bounds, Term, Understanding, as_written
from training.lexicon import LexiconConfig, Texts, build_lexicon, write_lexicon

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
PRODUCTS = (
    *(("Wireless Mouse", "Logitech", "Mouse"),) * 6,
    *(("Bluetooth Speaker black", "Sony", "Speaker"),) * 5,
    *(("External Hard Drive 1TB", "Seagate", "Hard drive"),) * 4,
    *(("Headset TN-2110", "HP", "Headset"),) * 3,
    *(("Frzn Pizza", "Casa", "Frozen pizza"),) * 3,
    *(("Whole Milk", "Dairyland", "Milk"),) * 3,
    *(("Laptop", "HP", "Laptop"), ("Notebook red", "HP", "Laptop"), ("Phone case", "Case-Mate", "Case")),
)


def texts() -> Texts:
    names, brands, categories = (list(each) for each in zip(*PRODUCTS, strict=True))
    full = [" ".join(each) for each in PRODUCTS]
    return Texts(name=names, full=full, brand=brands, category=categories, popularity=[1.0] * len(names))


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    words = load_search_words("complete_journey")
    return Lexicon(build_lexicon(texts(), words, minor_digits=2, until=AT))


def words(understood: Understanding) -> set[str]:
    return {term.word for term in understood.terms}


@pytest.mark.parametrize(
    ("query", "low", "high"),
    [
        ("mouse under 1500", None, 150_000), ("₹2000 se kam mouse", None, 200_000), ("between 20 and 30", 2_000, 3_000),
        ("2000 से कम", None, 200_000), ("above 500", 50_000, None), ("1.5k tak", None, 150_000),
        ("२००० से कम", None, 200_000), ("500 se 1000 tak", 50_000, 100_000), ("₹1,00,000 ke andar", None, 10_000_000),
        ("$20 - $30 mouse", 2_000, 3_000), ("2 lakh se upar", 20_000_000, None), ("1 हज़ार से ज़्यादा", 100_000, None),
        ("between 30 and 20", 2_000, 3_000), ("rs. 999.50 or less", None, 99_950),
        ("500 से 1000 के बीच", 50_000, 100_000),
    ],
)  # fmt: skip
def test_price_bounds_in_three_languages(lexicon: Lexicon, query: str, low: int | None, high: int | None) -> None:
    """Bounds come out in minor units, their words are searched no more, and the client can refuse them."""
    understood = understand(query, lexicon)
    assert understood.bounds == Bounds(price_min_minor=low, price_max_minor=high)
    assert understood.text in ("", "mouse")
    assert understood.query_class == "transactional"
    refused = understand(query, lexicon, refuse=["prices"])
    assert refused.bounds == Bounds()
    assert any(word.isnumeric() or word[0].isnumeric() for word in refused.text.split())


def test_blanks_between_words_change_nothing(lexicon: Lexicon) -> None:
    """However wide the gaps, the price patterns see single spaces: a run of blanks costs them no time."""
    for query in ("mouse less than 1500", "between 20 and 30", "mouse for over 50"):
        wide = understand(query.replace(" ", " \t\u3000 "), lexicon)
        assert (wide.bounds, wide.text, wide.trace) == (
            understand(query, lexicon).bounds, understand(query, lexicon).text, understand(query, lexicon).trace,
        )  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        "monitor over 24 inch", "under 8gb", "20-30 pack", "windows 10", "for over 50", "usb 3.0", "tn-2110", "8 to 12",
        "note 10+", "iphone 11 max", "nike air max 90", "airpods max 2", "iphone 13 pro max 256",
        "air max 90 for over 50", "movies from 2010 to 2015", "between 1990 and 1999 vinyl", "filmein 2010 se 2015 tak",
        "under 16 football kit", "over 65 vitamins", "up to 20 guests", "games between 3 and 5 players",
        "within 1 week", "watch under 5 atm", "less than 500 calories snack", "over 1000 thread count sheets",
        "at least 4 players", "notebook over 200 pages", "under 5 saal", "over 18 board games",
    ],
)  # fmt: skip
def test_numbers_of_other_things_are_no_prices(query: str) -> None:
    """A size, a count, a version, an age, years, a code or a bare range bounds no price."""
    assert price_bounds(query, 2) is None


@pytest.mark.parametrize(
    ("query", "low", "high"),
    [
        ("above 500 and below 1000", 500, 1_000), ("under 1000 and above 500", 500, 1_000),
        ("over rs 500 but under rs 1000", 500, 1_000), ("min 500 max 1000", 500, 1_000),
        ("500 se zyada aur 1000 se kam", 500, 1_000), ("1000 से कम और 500 से ज़्यादा", 500, 1_000),
        ("under Rs.500", None, 500), ("rs500 tak", None, 500), ("rs.500 se kam", None, 500), ("inr500 tak", None, 500),
        ("500rs tak", None, 500), ("₹500/- tak", None, 500), ("500 and below", None, 500),
        ("max ₹500", None, 500), ("max 500 rs", None, 500), ("max price 500", None, 500), ("price min. 500", 500, None),
        ("maximum 500", None, 500), ("airpods max 2 above 500", 500, None), ("air max 90 under 5000", None, 5_000),
        ("between 10 and 20k", 10_000, 20_000), ("10 se 20 hazar tak", 10_000, 20_000), ("₹20-30k", 20_000, 30_000),
        ("between 500 and 2k", 500, 2_000), ("between 2k and 5k", 2_000, 5_000),
        ("under 1500 shoes", None, 1_500), ("shoes under 50 for men", None, 50), ("under 50", None, 50),
        ("under $16 football kit", None, 16), ("under 16 rs football kit", None, 16), ("over 1k vitamins", 1_000, None),
        ("2000 se kam wale jute", None, 2_000), ("50 se kam wale jute", None, 50), ("price under 16 kit", None, 16),
        ("laptop between 20 and 30", 20, 30), ("from 500 to 2010", 500, 2_010), ("from $2010 to $2015", 2_010, 2_015),
        ("between 1,900 and 2,050", 1_900, 2_050), ("phones under 2015", None, 2_015),
        ("from 2k to 2050", 2_000, 2_050),
    ],
)  # fmt: skip
def test_both_ends_currencies_and_thousands(query: str, low: int | None, high: int | None) -> None:
    """Two bounds are both read, a currency may touch its number, thousands said once count for both ends."""
    found = price_bounds(unicodedata.normalize("NFKC", query.casefold()), 0)
    assert found is not None
    assert (found.low, found.high) == (low, high)


def test_only_whole_words_say_that_a_number_is_an_age() -> None:
    """Somebody aged over 50 has an age; what is packaged, and luggage, have prices."""
    assert price_bounds("aged over 50", 2) is None
    for query in ("candy packaged over 50", "luggage over 50"):
        found = price_bounds(query, 2)
        assert found is not None
        assert found.low == 5_000


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("blutooth speker", "bluetooth speaker"), ("wireles mouse", "wireless mouse"), ("bluetoth", "bluetooth"),
        ("loggitech mouse", "logitech mouse"), ("harddrive", "hard drive"),
        ("mousespeaker", "mouse speaker"), ("choclate milk", "choclate milk"),
    ],
)  # fmt: skip
def test_a_typo_asks_for_the_same(lexicon: Lexicon, typo: str, meant: str) -> None:
    """A misspelled word of the catalogue is understood as the word; one that the catalogue has no idea of stays."""
    understood = understand(typo, lexicon)
    assert understood.text == meant
    assert {term for term in understood.terms if term.boost == 1.0} >= set(understand(meant, lexicon).terms)


@pytest.mark.parametrize("query", ["tn2110", "seagate", "hp", "12345678", "mouses", "frzn", "case", "wwh1000xm4"])
def test_what_the_shop_knows_is_never_corrected(lexicon: Lexicon, query: str) -> None:
    """A brand, a code, a number, a known word or another form of it stays as it is."""
    assert "spelling" not in {step.step for step in understand(query, lexicon).trace}


def test_words_of_products_newer_than_the_lexicon_are_right(lexicon: Lexicon) -> None:
    """What would be a typo is a word once a product that came today holds it."""
    assert understand("speeker", lexicon).text == "speaker"
    assert understand("speeker", lexicon, new_stems={"speeker"}).text == "speeker"


def test_an_unsure_correction_is_not_made(lexicon: Lexicon) -> None:
    """Two words equally near: "xouse" with one product "house" and one "mouse" is 50 %, below the 80 % needed."""
    even = Lexicon(lexicon.data.model_copy(update={"words": {"house": 4, "mouse": 4}, "pairs": {}}))
    found = even.speller.correct("xouse")
    assert found is not None
    assert found.confidence == pytest.approx(4 * 0.02 / (4 * 0.02 + 4 * 0.02 + 0.05 * 0.02))
    assert understand("xouse", even).text == "xouse"
    assert understand("xouse", even, confidence=0.4).text == "house"


def test_a_neighbour_decides_between_two_readings(lexicon: Lexicon) -> None:
    """Beside "wireless", "xouse" is a mouse: products hold the pair."""
    data = lexicon.data.model_copy(
        update={"words": {"house": 4, "mouse": 4, "wireless": 4}, "pairs": {"wireless mouse": 4}}
    )
    assert understand("wireless xouse", Lexicon(data)).text == "wireless mouse"


def test_synonyms_share_the_words_group_at_their_boost(lexicon: Lexicon) -> None:
    """Laptop finds notebooks at 0.8, notebook laptops; what the word as written scores stays 1.0."""
    assert understand("laptop", lexicon).terms == (Term("laptop", 1.0, 0), Term("notebook", 0.8, 0))
    assert words(understand("notebook", lexicon)) == words(understand("laptop", lexicon))


def test_a_synonym_in_another_language_replaces_an_unknown_word(lexicon: Lexicon) -> None:
    """Hindi and Hinglish words that no product holds are searched as what they mean."""
    for query in ("doodh", "दूध", "mujhe doodh chahiye", "मुझे दूध चाहिए"):
        assert understand(query, lexicon).text == "milk"


def test_what_stood_for_replaced_words_goes_with_them(lexicon: Lexicon) -> None:
    """Two words replaced by one: the compound that stood for them goes, that of the words behind them moves up."""
    update = {"synonyms": {"micro wave": ["microwave"]}, "words": {**lexicon.data.words, "microwave": 3}}
    understood = understand("micro wave head set", Lexicon(lexicon.data.model_copy(update=update)))
    assert understood.text == "microwave head set"
    assert [(term.word, term.group) for term in understood.terms] == [
        ("microwav", 0), ("head", 1), ("headset", 1), ("headset", 2), ("set", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("doodh.", "doodh"), ("'laptop'", "laptop"), ("hp.", "hp"), ("wireles. mouse", "wireles mouse"),
        ("mouse & speaker.", "mouse speaker"), ("mouse under 1500.", "mouse under 1500"), ("under 20.", "under 20"),
        ("case-mate. case", "case-mate case"),
    ],
)  # fmt: skip
def test_marks_at_the_edge_of_a_word_are_no_part_of_it(lexicon: Lexicon, query: str, meant: str) -> None:
    """The index holds words without them, so they are looked up, corrected and replaced without them too."""
    read, plain = understand(query, lexicon), understand(meant, lexicon)
    assert (read.text, read.terms, read.bounds) == (plain.text, plain.terms, plain.bounds)
    assert (read.boosts, read.query_class) == (plain.boosts, plain.query_class)


def test_names_with_marks_are_known_by_their_words() -> None:
    """A brand, a category, a synonym and an abbreviation are found however their full stops are written."""
    names, given = ("Dr. Oat", "Fruit & Veg"), texts()
    more = {"brand": [*given.brand, names[0]], "category": [*given.category, names[1]], "name": [*given.name, "Oats"]}
    full, popularity = [*given.full, "Oats Dr. Oat Fruit & Veg"], [*given.popularity, 1.0]
    said = load_search_words("complete_journey")
    said = said.model_copy(update={"abbreviations": {"oz.": "ounce"}})
    made = build_lexicon(Texts(**more, full=full, popularity=popularity), said, minor_digits=2, until=AT)
    assert made.brands["dr oat"] == names[0]
    assert made.categories["fruit veg"] == names[1]
    assert made.abbreviations == {"oz": "ounce"}
    for query in ("Dr. Oat", "dr oat"):
        assert understand(query, Lexicon(made)).boosts == {"brand": names[0]}


def test_abbreviations_stand_for_their_long_form_and_back(lexicon: Lexicon) -> None:
    """Frozen and FRZN ask for the same words, each at 1.0: a label's spelling is no other thing."""
    long, short = (understand(f"{word} pizza", lexicon) for word in ("frozen", "frzn"))
    assert long.terms == short.terms
    assert {Term("frozen", 1.0, 0), Term("frzn", 1.0, 0)} <= set(long.terms)


def test_two_words_and_their_compound_find_each_other(lexicon: Lexicon) -> None:
    """Head set also asks for headset, in the group of each of its words."""
    assert {Term("headset", 1.0, 0), Term("headset", 1.0, 1)} <= set(understand("head set", lexicon).terms)


def test_entities_become_boosts_and_what_a_product_goes_with_does_not(lexicon: Lexicon) -> None:
    """A brand, a colour and a size are boosts, a category is shown; what a bag is for did not make it."""
    assert understand("HP laptop", lexicon).boosts == {"brand": "HP"}
    assert understand("black speaker", lexicon).boosts == {"color": "black"}
    assert understand("milk 500 ml", lexicon).boosts == {"size": "500 ml"}
    assert understand("milk 500 ml", lexicon).trace[-1].detail == {"size": "500 ml", "category": "Milk"}
    for query in ("bag for hp laptop", "hp ke liye bag"):
        assert "brand" not in understand(query, lexicon).boosts


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hp", "navigational"), ("hard drive", "navigational"), ("tn2110", "navigational"),
        ("hp mouse", "transactional"), ("cheap mouse", "transactional"), ("mouse under 20", "transactional"),
        ("which mouse under 20", "informational"), ("speaker black", "informational"),
        ("laptop kaise chune", "informational"),
    ],
)  # fmt: skip
def test_classes(lexicon: Lexicon, query: str, expected: str) -> None:
    """Naming one thing, being about to buy, wanting to know."""
    assert understand(query, lexicon).query_class == expected


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ('"Wireless  Mouse" black', ("wireless mouse",)), ("“hard drive” «1TB»", ("hard drive", "1tb")),
        ('27" monitor', ()), ('3.5" hard drive 2.5" ssd', ()), ('27" "hard drive"', ("hard drive",)),
        ('"hard drive", black', ("hard drive",)), ('("hard drive")?', ("hard drive",)),
        ('"hard drive', ()), ('""', ()), ('" "', ()), ('"..."', ()), ('""""""', ()),
    ],
)  # fmt: skip
def test_what_stands_in_quotes_is_a_phrase_and_an_inch_is_not(
    lexicon: Lexicon, query: str, phrases: tuple[str, ...]
) -> None:
    """In any quotes; open ones and empty ones are none; refused, the words are words."""
    assert understand(query, lexicon).phrases == phrases
    assert understand(query, lexicon, refuse=["phrases"]).phrases == ()


def test_words_in_quotes_are_meant_as_written(lexicon: Lexicon) -> None:
    """No spelling is corrected and no price is read in them; beside them both are."""
    asked = understand('"wireles under 20" blutooth under 30', lexicon)
    assert asked.phrases == ("wireles under 20",)
    assert asked.bounds == Bounds(price_max_minor=3_000)
    assert asked.text == "wireles under 20 bluetooth"
    assert understand('under "usb cable" 20', lexicon).bounds == Bounds()
    assert understand('under 16 "football kit"', lexicon).bounds == Bounds(), "an age"
    around = understand('mouse "under 20" under 20', lexicon)
    assert (around.text, around.bounds) == ("mouse under 20", Bounds(price_max_minor=2_000))
    assert [step.after for step in around.trace[:2]] == ["mouse under 20 under 20", "mouse under 20"]


def test_quotes_that_are_given_up_leave_the_query_without_them(lexicon: Lexicon) -> None:
    """Spelling is corrected and prices are read then, as if nobody had quoted."""
    asked = understand('"wirless mouse under 20"', lexicon)
    assert (asked.bounds, asked.text) == (Bounds(), "wirless mouse under 20")
    (first, softer_one), (second, _), *_ = softer(asked, lexicon, refuse=())
    plain = understand("wirless mouse under 20", lexicon)
    assert (first, second) == ("phrases", "price_bounds")
    assert (softer_one.text, softer_one.terms, softer_one.bounds) == (plain.text, plain.terms, plain.bounds)
    assert softer_one.text == "wireless mouse"


def test_a_word_that_only_a_new_product_uses_is_looked_for(lexicon: Lexicon) -> None:
    """What it means in the catalogue, or is short for, stands beside it and does not replace it."""
    doodh = understand("doodh", lexicon, new_stems={"doodh"})
    assert words(doodh) == {"doodh", "milk"}
    assert words(understand("doodh", lexicon)) == {"milk"}
    assert "blk" not in words(understand("blk mouse", lexicon))
    assert {"blk", "black"} <= words(understand("blk mouse", lexicon, new_stems={"blk"}))


def test_each_step_can_be_refused_and_all_refused_is_as_written(lexicon: Lexicon) -> None:
    """Without a step its name is not in the trace; without all of them the query stands as written."""
    query = 'mujhe frzn piza head set "hp laptop" chahiye under 20'
    done = {step.step for step in understand(query, lexicon).trace}
    assert done == set(STEPS)
    for step in STEPS:
        assert step not in {each.step for each in understand(query, lexicon, refuse=[step]).trace}
    plain = understand(query, lexicon, refuse=STEPS)
    assert (plain.text, plain.terms, plain.trace) == (as_written(query).text, as_written(query).terms, ())


def test_relaxation_gives_up_in_its_declared_order(lexicon: Lexicon) -> None:
    """Quotes, inferred bounds, doubts about spelling, the rarest word; a refused step stays refused."""
    asked = understand('"wireless mouse" zzzz under 5', lexicon)
    steps = list(softer(asked, lexicon, refuse=()))
    assert [what for what, _ in steps] == ["phrases", "price_bounds", "rarest_word:zzzz", "rarest_word:mouse"]
    assert (steps[0][1].phrases, steps[0][1].bounds) == ((), asked.bounds)
    assert all(each.bounds == Bounds() and not each.phrases for _, each in steps[1:])
    assert steps[2][1].text == "wireless mouse"
    assert list(softer(understand("mouse", lexicon), lexicon, refuse=())) == []


HARD = st.text(max_size=300) | st.lists(
    st.sampled_from(
        ["under", "₹", "2,000", "se", "kam", "blutooth", "head", "set", "frzn", "दूध", "hp", "for", "1.5k", "\U0001d7da"]
    ),
    max_size=40,
).map(" ".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(query=HARD)
def test_any_query_is_understood(query: str) -> None:
    """It never raises, prices stay in order, groups count from 0, and reading the result again changes no word."""
    lexicon = _small()
    understood = understand(query, lexicon)
    low, high = understood.bounds.price_min_minor, understood.bounds.price_max_minor
    assert low is None or high is None or low <= high
    assert {term.group for term in understood.terms} == set(range(len({term.group for term in understood.terms})))
    assert all(0 < term.boost <= 1 for term in understood.terms)
    assert len(understood.terms) < 2_000
    again = understand(understood.text, lexicon, refuse=["prices", "fillers"])
    assert again.text == understood.text


_made: list[Lexicon] = []


def _small() -> Lexicon:
    if not _made:
        _made.append(Lexicon(build_lexicon(texts(), load_search_words("complete_journey"), minor_digits=2, until=AT)))
    return _made[0]


def test_the_same_catalogue_gives_the_same_bytes(tmp_path: Path) -> None:
    """The artefact is byte-reproducible, whatever the order of products, and loads to what was built."""
    words, given = load_search_words("complete_journey"), texts()
    back = Texts(**{name: list(reversed(getattr(given, name))) for name in Texts.model_fields})
    for name, each in (("a", given), ("b", back)):
        write_lexicon(build_lexicon(each, words, minor_digits=2, until=AT), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert Lexicon.load(tmp_path / "a").data == build_lexicon(given, words, minor_digits=2, until=AT)


def test_counts_by_hand() -> None:
    """Wireless is in 6 products, hp in 5; a pair in fewer than three texts is not kept."""
    made = build_lexicon(texts(), load_search_words("complete_journey"), minor_digits=2, until=AT)
    assert Counter({"wireless": made.words["wireless"], "hp": made.words["hp"]}) == {"wireless": 6, "hp": 5}
    assert made.pairs["wireless mouse"] == 6
    assert "phone case" not in made.pairs


def test_queries_of_few_customers_are_suggested_to_nobody() -> None:
    """A query of fewer customers than the least may name a person: neither suggested nor a word to correct to."""
    queries: Mapping[str, int] = {"asha verma 9876543210": 4, "gaming mouse": 5}
    made = build_lexicon(
        texts(),
        load_search_words("x"),
        minor_digits=2,
        until=AT,
        queries=queries,
        config=LexiconConfig(min_customers=5),
    )
    assert [each.text for each in made.suggestions if each.kind == "query"] == ["gaming mouse"]
    assert "verma" not in made.words
    assert "gaming" in made.words


def test_a_broken_lexicon_is_refused(tmp_path: Path) -> None:
    """What is no lexicon is not loaded, and the error says what to do."""
    (tmp_path / "x").write_text('{"kind": "query_lexicon"}')
    with pytest.raises(ArtefactRefused, match="run rebuild_index"):
        Lexicon.load(tmp_path / "x")


def test_a_shops_words_add_to_the_defaults_and_errors_name_the_key(tmp_path: Path) -> None:
    """The shop's file wins per word; a wrong value is named by file and key."""
    for shop, said in (("defaults", '{"blk": "black", "lg": "large"}'), ("s", '{"lg": "long"}')):
        (tmp_path / shop).mkdir()
        (tmp_path / shop / "abbreviations.json").write_text(said)
    assert load_search_words("s", tmp_path).abbreviations == {"blk": "black", "lg": "long"}
    (tmp_path / "s" / "synonyms.json").write_text('{"boost": 2}')
    with pytest.raises(BadShop, match=r"s/synonyms.json: boost"):
        load_search_words("s", tmp_path)
