"""Understanding, rules, facets, category pages and suggestions, as a client of version 1 meets them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from mercato.settings import Settings
from serving import rules as rulebook
from serving.answers import _price_facet
from serving.gateway import Gateway
from serving.schemas import SearchAnswer, SuggestAnswer
from tests.feature_repo.clean_sample import T
from tests.serving.conftest import client_of, wait_ready


def search(client: TestClient, query: str = "", **more: Any) -> SearchAnswer:
    answer = client.post("/v1/search", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    return SearchAnswer.model_validate(answer.json())


def ids(answer: SearchAnswer) -> list[str]:
    return [each.product_id for each in answer.results]


def category(client: TestClient, product_id: str) -> str:
    found: str = client.get(f"/v1/products/{product_id}").json()["category"]
    return found


@pytest.mark.parametrize(
    ("asked", "same"),
    [("frozn pizza", "frozen pizza"), ("frzn pizza", "frozen pizza"), ("doodh", "milk"), ("दूध", "milk")],
)
def test_a_typo_an_abbreviation_or_another_language_finds_the_same(client: TestClient, asked: str, same: str) -> None:
    """The page is the one of the plain query, and the answer says what was searched."""
    found = search(client, asked, explain=True)
    assert ids(found) == ids(search(client, same))
    assert found.understood.text == same
    assert found.understood.trace


def test_a_price_in_the_query_is_a_filter_that_can_be_refused(client: TestClient) -> None:
    """Under 3: every price is; the client's own bound goes before it, and a refused step does nothing."""
    cheap = search(client, "frozen pizza under 3", n=100)
    assert cheap.total > 0
    assert all(each.price is not None and each.price <= 3 for each in cheap.results)
    assert (cheap.understood.text, cheap.understood.price_max) == ("frozen pizza", 3.0)
    assert cheap.total == search(client, "frozen pizza", filters={"price_max": 3}).total
    assert search(client, "frozen pizza under 3", filters={"price_max": 4}).total > cheap.total
    refused = search(client, "frozen pizza under 3", refuse=["prices"])
    assert (refused.understood.price_max, refused.understood.text) == (None, "frozen pizza under 3")


def test_a_bound_that_leaves_nothing_is_given_up_and_said(client: TestClient) -> None:
    """No pizza costs less than two cents: the inferred bound is relaxed, one that the client sent never is."""
    found = search(client, "frozen pizza under 0.01")
    assert found.relaxed == ["price_bounds"]
    assert ids(found) == ids(search(client, "frozen pizza"))
    strict = search(client, "frozen pizza", filters={"price_max": 0.01})
    assert (strict.total, strict.relaxed) == (0, [])


def test_words_in_quotes_stand_side_by_side_or_are_given_up(client: TestClient) -> None:
    """Each product says them so, none comes by meaning; where none does the quotes are given up, and it says so."""
    quoted, plain = search(client, '"hot dogs"', n=100, explain=True), search(client, "hot dogs", n=100)
    assert quoted.understood.phrases == ["hot dogs"]
    assert 0 < quoted.total < plain.total
    assert {each.product_id for each in plain.results if "hot dog" in each.name.lower()} == set(ids(quoted))
    assert quoted.relaxed == []
    turned = search(client, '"dogs hot"', n=100)
    assert (turned.relaxed, turned.understood.phrases) == (["phrases"], [])
    assert set(ids(turned)) == set(ids(plain))
    assert ids(search(client, '"hot dogs"', n=100, refuse=["phrases"])) == ids(plain)


def test_a_category_page_is_an_empty_query(client: TestClient) -> None:
    """Its products are all of the category, best sold first, and pages do not overlap; without a category it is 422."""
    page = search(client, "", n=100, filters={"category": "frozen pizza"}, explain=True)
    assert page.total == page.facets["category"]["FROZEN PIZZA"]
    sold = [each.score for each in page.results]
    assert sold == sorted(sold, reverse=True)
    assert {category(client, each) for each in ids(page)[:3]} == {"FROZEN PIZZA"}
    assert ids(search(client, " ", n=2, offset=2, filters={"category": "FROZEN PIZZA"})) == ids(page)[2:4]
    assert client.post("/v1/search", json={"query": " "}).status_code == 422


def test_price_labels_are_plain_numbers() -> None:
    """From a million up too; what is below one unit keeps its digits."""
    ranges = [(0, 49, 1), (50, 99_999_999, 2), (100_000_000, 199_999_999, 3), (2 * 10**11, None, 4)]
    assert list(_price_facet(ranges, 2)) == ["0-0.49", "0.5-999999.99", "1000000-1999999.99", "2000000000-"]
    assert list(_price_facet([(1_000_000, None, 1)], 0)) == ["1000000-"]


def test_facets_ignore_the_filter_on_themselves(client: TestClient) -> None:
    """With a brand chosen, the others keep their counts; prices add up and the label is a filter's bounds."""
    free = search(client, "milk")
    brand = list(free.facets["brand"])[-1]
    kept = search(client, "milk", filters={"brand": brand})
    assert kept.facets["brand"] == free.facets["brand"]
    assert sum(kept.facets["category"].values()) == kept.total == free.facets["brand"][brand]
    label, count = next(iter(free.facets["price"].items()))
    low, _, high = label.partition("-")
    assert search(client, "milk", filters={"price_min": low, "price_max": high}).total == count
    assert search(client, "milk", filters={"price_min": low, "price_max": high}).facets["price"] == free.facets["price"]


@pytest.fixture
def rules(gateway: Gateway, tmp_path: Path) -> Any:
    """Writes the gateway's rules."""
    book, path = gateway.rules, tmp_path / "merchandising.yaml"
    before, gateway.rules = book, rulebook.RuleBook(path, lambda: T)

    def write(text: str) -> None:
        path.write_text(text)
        os.utime(path, ns=(path.stat().st_mtime_ns + 1, path.stat().st_mtime_ns + len(text)))
        gateway.rules._looked_at = -rulebook.REFRESH_SECONDS

    yield write
    gateway.rules = before


RULE = "- {{id: {id}, owner: shop, reason: test, start: 2017-01-01T00:00:00Z, end: {end}, action: {action}, {more}}}\n"


def rule(action: str, more: str, end: str = "2019-01-01T00:00:00Z") -> str:
    return RULE.format(id=f"my-{action}", end=end, action=action, more=more)


def test_rules_move_products_across_pages_and_explain_shows_them(client: TestClient, rules: Any) -> None:
    """A pin takes its place on the whole list, a block leaves; pages, exclude and filters stay right around them."""
    plain = search(client, "frozen pizza", n=10)
    assert search(client, "frozen pizza", explain=True).rules == []
    pinned, gone = ids(plain)[8], ids(plain)[0]
    other = ids(search(client, "milk", n=1))[0]
    rules(
        rule("pin", f"position: 3, what: {{products: ['{pinned}', '{other}']}}, when: {{queries: [Frozen pizza]}}")
        + rule("block", f"what: {{products: ['{gone}']}}")
    )
    ten = search(client, "frozen pizza", n=10, explain=True)
    rest = [each for each in ids(plain) if each not in (pinned, gone)]
    assert ids(ten)[:4] == [rest[0], rest[1], pinned, other]
    assert ten.results[2].rules == ["pin my-pin"]
    window = {"owner": "shop", "start": "2017-01-01T00:00:00Z", "end": "2019-01-01T00:00:00Z"}
    assert ten.rules is not None
    assert [each.model_dump() for each in ten.rules] == [
        {"id": "my-pin", "action": "pin", "products": 2, **window},
        {"id": "my-block", "action": "block", "products": 1, **window},
    ]
    assert search(client, "frozen pizza").rules is None
    assert ten.total == plain.total
    pages = [ids(search(client, "frozen pizza", n=2, offset=at)) for at in (0, 2, 4, 6, 8)]
    assert [each for page in pages for each in page] == ids(ten)
    assert ids(search(client, "frzn pizza", n=10)) == ids(ten)
    assert pinned not in ids(search(client, "frozen pizza", exclude=[pinned]))
    assert other not in ids(search(client, "frozen pizza", filters={"category": "frozen pizza"}))
    assert gone not in ids(search(client, "pizza", n=100))


def test_a_pin_does_not_keep_a_query_that_finds_nothing_from_being_softened(client: TestClient, rules: Any) -> None:
    """With a product pinned to every query, bounds that leave nothing are given up as without it."""
    other = ids(search(client, "milk", n=1))[0]
    rules(rule("pin", f"position: 1, what: {{products: ['{other}']}}"))
    found = search(client, "frozen pizza over 9999")
    assert found.relaxed == ["price_bounds"]
    assert found.total > 1
    nothing = search(client, "zzzzzz")
    assert (ids(nothing), nothing.relaxed) == ([other], [])


def test_a_pin_is_held_to_what_the_client_sent_not_to_what_the_query_states(client: TestClient, rules: Any) -> None:
    """Quotes and prices in the query are about what is found; a filter of the client is about what is shown."""
    other = ids(search(client, "milk", n=1))[0]
    queries = ('"hot dogs"', "frozen pizza under 3", "frozen pizza over 2")
    plain = {query: search(client, query) for query in queries}
    rules(rule("pin", f"position: 1, what: {{products: ['{other}']}}"))
    for query in queries:
        pinned = search(client, query, explain=True)
        assert ids(pinned)[0] == other
        assert pinned.rules is not None
        assert (pinned.relaxed, pinned.rules[0].products) == ([], 1)
        assert pinned.total == plain[query].total + 1
    assert other not in ids(search(client, "frozen pizza", filters={"category": "frozen pizza"}))
    nothing = search(client, "frozen pizza over 9999")
    assert (nothing.relaxed, ids(nothing)[0]) == (["price_bounds"], other)


def test_a_rule_of_what_a_query_became_when_it_was_softened_applies(client: TestClient, rules: Any) -> None:
    """The answer says that it searched this, so its rules hold."""
    other = ids(search(client, "milk", n=1))[0]
    rules(rule("pin", f"position: 1, what: {{products: ['{other}']}}, when: {{queries: [frozen pizza]}}"))
    softened = search(client, '"frozn pizza"')
    assert (softened.relaxed, softened.understood.text) == (["phrases"], "frozen pizza")
    assert ids(softened)[0] == other


def test_a_boost_moves_what_nobody_bought_on_a_category_page_too(built: tuple[Path, str], tmp_path: Path) -> None:
    """Its score there is not zero."""
    shutil.copytree(built[0], tmp_path / "home")
    gateway = Gateway.open(Settings(home=tmp_path / "home"))
    wait_ready(gateway)
    with client_of(gateway) as client:
        for name in ("a", "b", "c"):
            made = {"name": f"Lamp {name}", "brand": f"Brand {name}", "category": "NEW LAMPS"}
            assert client.put(f"/v1/products/new-{name}", json=made).status_code == 200
        page = {"filters": {"category": "NEW LAMPS"}}
        assert ids(search(client, "", **page)) == ["new-a", "new-b", "new-c"]
        path = tmp_path / "rules.yaml"
        path.write_text(rule("boost", "factor: 5, what: {brand: Brand c}"))
        gateway.rules = rulebook.RuleBook(path, lambda: T)
        assert ids(search(client, "", **page)) == ["new-c", "new-a", "new-b"]


def test_no_number_makes_search_fail(client: TestClient) -> None:
    """Signs that become "100,100,..." are no price."""
    found = search(client, "frozen pizza under " + "⑩🄁" * 100 + "100 inr")
    assert found.understood.price_max is None


def test_a_rule_that_is_over_does_nothing_and_a_wrong_file_keeps_the_last_rules(client: TestClient, rules: Any) -> None:
    """The rules in force stay in force when a change of the file does not hold."""
    plain = ids(search(client, "milk"))
    what = f"what: {{products: ['{plain[0]}']}}"
    rules(rule("block", what, end="2017-06-01T00:00:00Z"))
    assert ids(search(client, "milk")) == plain
    rules(rule("block", what))
    assert ids(search(client, "milk"))[0] == plain[1]
    refused = REGISTRY.get_sample_value("mercato_merchandising_refused_total") or 0.0
    rules("- {id: broken}\n")
    assert ids(search(client, "milk"))[0] == plain[1]
    assert REGISTRY.get_sample_value("mercato_merchandising_refused_total") == refused + 1
    rules("")
    assert ids(search(client, "milk")) == plain


def test_a_file_that_goes_away_keeps_its_rules_and_is_logged_once(tmp_path: Path) -> None:
    """Blocks hold while the file is gone, until it says something else; one that is named is missed at the start."""
    path = tmp_path / "merchandising.yaml"
    assert refusals(lambda: rulebook.RuleBook(path, lambda: T)) == 0
    assert refusals(lambda: rulebook.RuleBook(path, lambda: T, needed=True)) == 1
    path.write_text(rule("block", "what: {products: [x]}"))
    book = rulebook.RuleBook(path, lambda: T, needed=True)
    path.unlink()

    def look() -> list[str]:
        book._looked_at = -rulebook.REFRESH_SECONDS
        return [each.id for each in book.applying(queries=(), category=None, segment=None)]

    assert refusals(lambda: [look(), look()]) == 1
    assert look() == ["my-block"]
    path.write_text("")
    assert look() == []


def refusals(act: Callable[[], object]) -> int:
    """Warnings about the rules' file that something logs."""
    with capture_logs() as logged:
        act()
    return [each["event"] for each in logged].count("merchandising.refused")


def test_suggestions(client: TestClient) -> None:
    """Categories by their first letters, with a typo too; what is empty or too long is refused."""
    for typed in ("froz", "frozne piz"):
        answer = SuggestAnswer.model_validate(client.get("/v1/suggest", params={"q": typed, "n": 5}).json())
        assert 0 < len(answer.suggestions) <= 5
        assert "frozen" in answer.suggestions[0].text.lower()
    assert client.get("/v1/suggest", params={"q": ""}).status_code == 422
    assert client.get("/v1/suggest", params={"q": "x" * 300}).status_code == 422


def test_understanding_can_be_switched_off(
    client: TestClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the setting false every query is taken as written."""
    off = gateway.settings.model_copy(update={"enable_query_enhancement": False})
    monkeypatch.setattr(gateway, "settings", off)
    assert search(client, "frozn pizza under 3", explain=True).understood.text == "frozn pizza under 3"
    nothing = search(client, "blutoth xqzwv")
    assert (nothing.total, nothing.relaxed, nothing.understood.text) == (0, [], "blutoth xqzwv")


def test_what_understanding_did_is_counted(client: TestClient) -> None:
    """Queries by class, steps by name, relaxations by what was given up."""
    wanted = (
        ("mercato_queries_total", {"query_class": "transactional"}),
        ("mercato_query_steps_total", {"step": "spelling"}),
        ("mercato_queries_relaxed_total", {"what": "price_bounds"}),
        ("mercato_query_understanding_seconds_count", {}),
    )
    before = [REGISTRY.get_sample_value(*each) or 0.0 for each in wanted]
    search(client, "frozn pizza under 0.01")
    assert [REGISTRY.get_sample_value(*each) for each in wanted] == [each + 1 for each in before]
