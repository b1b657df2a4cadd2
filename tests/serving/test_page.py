"""The page: its own answers, and what a person sees and does in a real browser."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from tests.serving import page_shop
from tests.serving.page_shop import DAG_RUN, KNOWN, RUN

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def shop(built: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The demo's files around the small release; the truth of KNOWN is its first and third recommendation."""
    return page_shop.settle(built, tmp_path_factory.mktemp("page") / "home", ["no-such-product"])


@pytest.fixture(scope="module")
def url(shop: Settings) -> Iterator[str]:
    """The address of the page over a real gateway."""
    with page_shop.served(shop) as found:
        while (answer := httpx.post(f"{found}/v1/recommend", json={"customer_id": KNOWN}).json())["degraded"]:
            time.sleep(0.5)  # a busy machine may miss the deadline of the first online read
        path = shop.root / "demo" / "households.json"
        listed = json.loads(path.read_text())
        listed[0]["later"] = [answer["results"][at]["product_id"] for at in (0, 2)]
        path.write_text(json.dumps(listed))
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with sync_playwright() as playwright:
        assert CHROMIUM, "the page is tested in Chromium: apt-get install chromium"
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on a desktop; it fails the test when a script throws."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = context.new_page()
    thrown: list[str] = []
    found.on("pageerror", lambda error: thrown.append(str(error)))
    yield found
    context.close()
    assert thrown == []


def look(page: Page, url: str, **state: str) -> None:
    """Open the page in a state and wait until nothing is asked any more."""
    page.goto("about:blank")
    page.goto(f"{url}/#{urlencode(state)}")
    page.wait_for_load_state("networkidle")


def test_the_page_is_small_and_locked_down(url: str) -> None:
    """The page's own files are under 50 KB together, allow nothing from elsewhere, and are asked for again by tag."""
    files = [httpx.get(url + path) for path in ("/", "/page/app.js", "/page/style.css")]
    assert sum(len(each.content) for each in files) < 50_000
    for each in files:
        assert "default-src 'none'; script-src 'self'" in each.headers["content-security-policy"]
        assert not {"http://", "https://"} & set(re.findall("https?://", each.text))
    assert httpx.get(url + "/", headers={"if-none-match": files[0].headers["etag"]}).status_code == 304
    assert httpx.get(url + "/page/page.py").status_code == 404
    assert not any("/page" in path for path in httpx.get(url + "/v1/openapi.json").json()["paths"])


def test_the_list_of_households_hides_the_truth(url: str) -> None:
    """The list offers households without what they bought later; the truth comes with one household's history."""
    listed = httpx.get(url + "/page/api/households").json()["households"]
    assert listed[0] == {"customer_id": KNOWN, "n_baskets": 5, "label": f"household {KNOWN}, 5 baskets"}
    assert len(httpx.get(f"{url}/page/api/households/{KNOWN}/history").json()["later"]) == 2


def test_a_history_is_what_was_bought(url: str) -> None:
    """A history holds each product once, most often bought first, with the shop's own dates."""
    bought = httpx.get(f"{url}/page/api/households/{KNOWN}/history").json()["products"]
    assert len({each["product_id"] for each in bought}) == len(bought) > 10
    assert [each["times"] for each in bought] == sorted((each["times"] for each in bought), reverse=True)
    assert all("2017-10-02" <= each["last_bought"] < "2017-12-04" for each in bought)
    assert all((each["every_days"] is None) == (each["times"] == 1) for each in bought if each["times"] < 3)
    nobody = httpx.get(f"{url}/page/api/households/nobody/history")
    assert nobody.json() == {"customer_id": "nobody", "products": [], "later": None, "degraded": []}


def test_a_release_tells_its_runs(url: str, built: tuple[Path, str]) -> None:
    """A release answers with its runs and evaluation, and with links that lead to web pages only."""
    answer = httpx.get(f"{url}/page/api/release/{built[1]}").json()
    assert answer["manifest"]["provenance"]["dag_runs"]["als"] == DAG_RUN
    assert answer["evaluation"]["rows"][1]["method"] == "frequency"
    assert set(answer["links"]) == {"airflow", "mlflow"}
    assert httpx.get(f"{url}/page/api/release/r-0000000000000000").json()["error"]["code"] == "not_found"


def test_without_a_demo_there_is_no_list(url: str, shop: Settings) -> None:
    """Where the demo wrote no list, asking for it says so, and what to do instead."""
    aside = (shop.root / "demo").rename(shop.root / "aside")
    answer = httpx.get(url + "/page/api/households")
    aside.rename(shop.root / "demo")
    assert answer.status_code == 404
    assert answer.json()["error"]["hint"].startswith("type a customer id")


def test_an_unreadable_history_says_so(built: tuple[Path, str], tmp_path: Path) -> None:
    """With the online store down a history is a 503 that says what still works, never an empty history."""

    class Down:
        def customer(self, customer_key: str) -> None:
            raise StoreUnavailable("the disk is gone")

    settings = page_shop.settle(built, tmp_path / "home", [])
    with page_shop.served(settings, reader=Down()) as url:
        answer = httpx.get(f"{url}/page/api/households/{KNOWN}/history")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["hint"].startswith("recommendations still answer")


def test_a_person_picks_a_household_by_keyboard(page: Page, url: str) -> None:
    """Typing, arrow and Enter pick a household: its history, recommendations, marks and hits appear; none complains."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    look(page, url)
    expect(page.locator("#ours li")).to_have_count(10)
    box = page.get_by_role("combobox", name="Household")
    box.fill(KNOWN)
    expect(page.get_by_role("option").first).to_have_text(f"household {KNOWN}, 5 baskets")
    box.press("ArrowDown")
    box.press("Enter")
    expect(page.locator("#who")).to_have_text(f"household {KNOWN}, 5 baskets")
    expect(page.locator("#history-rows tr")).to_have_count(15)
    expect(page.locator("#rival li")).to_have_count(10)
    expect(page.locator("#ours li.hit")).to_have_count(2)
    expect(page.locator("#ours-note")).to_contain_text("2 of 10 were bought in the four weeks after.")
    expect(page.locator("#truth")).to_contain_text("no model saw these weeks")
    assert page.evaluate("location.hash") == f"#household={KNOWN}"
    assert said == []


def test_only_new_products(page: Page, url: str) -> None:
    """The goal `only new to it` is in the address and leaves out everything in the history."""
    look(page, url, household=KNOWN)
    page.get_by_role("button", name="only new to it").click()
    expect(page.locator("#ours-note")).to_contain_text("never bought before")
    assert "goal=novel" in page.evaluate("location.hash")
    page.get_by_role("button", name=re.compile("Show all")).click()
    bought = set(page.locator("#history-rows .name").evaluate_all("all => all.map((each) => each.dataset.product)"))
    ours = set(page.locator("#ours .name").evaluate_all("all => all.map((each) => each.dataset.product)"))
    assert len(ours) == 10
    assert ours.isdisjoint(bought)


def test_search_then_a_product_then_one_like_it(page: Page, url: str) -> None:
    """A query lists products with category; one opens with its facts and similar products, which open in turn."""
    look(page, url)
    page.get_by_role("searchbox").fill("bread")
    expect(page.locator("#results-title")).to_contain_text("for “bread”")
    found = page.locator("#results-list li")
    expect(found.first.locator(".about")).to_contain_text(re.compile("[a-z]{3}"))
    name = found.first.locator(".name").inner_text()
    found.first.locator(".name").click()
    expect(page.get_by_role("dialog")).to_contain_text("Similar products")
    expect(page.locator("#panel-title")).to_have_text(name)
    page.locator("#similar .name").first.click()
    expect(page.locator("#panel-title")).not_to_have_text(name)
    page.go_back()
    expect(page.locator("#panel-title")).to_have_text(name)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("location.hash") == "#q=bread"


def test_a_recommendation_leads_to_its_runs(page: Page, url: str, built: tuple[Path, str]) -> None:
    """`why / where from` shows reasons, stage scores, the release, and links to the MLflow and the Airflow run."""
    look(page, url, household=KNOWN)
    page.get_by_role("button", name=re.compile("^Why")).first.click()
    panel = page.get_by_role("dialog")
    expect(panel).to_contain_text("Score at each stage")
    expect(panel.get_by_role("row", name=re.compile("^final "))).to_be_visible()
    expect(panel).to_contain_text(built[1])
    links = panel.get_by_role("row", name=re.compile("^als ")).get_by_role("link")
    assert [each.get_attribute("href") for each in links.all()] == [
        f"http://127.0.0.1:2/#/runs/{RUN}",
        "http://127.0.0.1:1/dags/train_als/runs/manual__2017-12-04T05%3A00%3A00%2B00%3A00",
    ]


def test_the_evaluation_stands_beside_its_rivals(page: Page, url: str) -> None:
    """The release's table names each method with its interval, and by how much the release is better."""
    look(page, url, household=KNOWN)
    row = page.get_by_role("row", name=re.compile("^its purchase frequency"))
    expect(row).to_contain_text("0.397")
    expect(row).to_contain_text("0.028 (0.024 to 0.032)")


@pytest.mark.parametrize("state", [{}, {"household": KNOWN}, {"q": "milk"}, {"household": KNOWN, "panel": "#ours .why"},
                                   {"q": "bread", "panel": "#results .name"}])  # fmt: skip
def test_a_phone_never_scrolls_sideways(browser: Browser, url: str, state: dict[str, str]) -> None:
    """At 360 pixels no view is wider than the screen, the open panel included."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    look(page, url, **{name: value for name, value in state.items() if name != "panel"})
    expect(page.locator("#ours li")).to_have_count(10)
    if "panel" in state:
        page.locator(state["panel"]).first.tap()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 360
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    context.close()


def test_a_name_is_text_never_markup(page: Page, url: str) -> None:
    """A product whose name is a script shows as that name and runs nothing."""

    def poison(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["results"][0] |= {"name": HOSTILE, "reasons": [HOSTILE]}
        route.fulfill(response=answer, json=body)

    page.route("**/v1/recommend", poison)
    look(page, url, household=KNOWN)
    expect(page.locator("#ours .name").first).to_have_text(HOSTILE)
    assert page.evaluate("window.hacked") is None


def test_a_failure_is_said_kindly(page: Page, url: str) -> None:
    """A 503 shows the server's message, hint and request id in its place; the rest of the page works."""
    error = {"code": "overloaded", "message": "too much at once", "hint": "slow down", "request_id": "abc"}
    page.route("**/v1/recommend", lambda route: route.fulfill(status=503, json={"error": error}))
    look(page, url, household=KNOWN)
    expect(page.get_by_role("alert")).to_have_text("too much at once slow down (request abc)")
    expect(page.locator("#history-rows tr")).to_have_count(15)


def test_missing_parts_are_named(page: Page, url: str) -> None:
    """What is degraded in an answer is said at the top of the page."""

    def weaken(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"degraded": ["encoder"]})

    page.route("**/v1/recommend", weaken)
    look(page, url)
    expect(page.get_by_role("status")).to_have_text("Answering with less than usual: encoder.")
