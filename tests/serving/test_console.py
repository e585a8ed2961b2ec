"""The console as a person meets it: a real browser, a real service, a real model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from pipelines.core.bundle import point_current
from pipelines.core.config import ServeConfig
from pipelines.core.layout import Layout
from serving.api import create_app
from serving.holder import CurrentRecommender
from serving.pages import CONSOLE
from serving.recommender import Recommender
from serving.store.store import Store
from tests.serving.browser import WAIT_MS, chromium, serving
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, Shop
from tests.serving.test_holder import publish

expect.set_options(timeout=WAIT_MS)
WORDS = "I love camping and tents"
PAGES = ("try", "new", "versions", "health")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return file_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def address(model: Recommender, shop: Shop, kept: Store) -> Iterator[str]:
    with serving(create_app(lambda: model, kept, CONFIG.serve, layout=Layout(shop.out))) as found:
        yield found


class Visit:
    """One visitor's tab: nothing may go elsewhere, and nothing may be complained of in the browser's console."""

    def __init__(self, browser: Browser, address: str, **how: Any) -> None:  # noqa: ANN401 - Playwright's own
        """Open it, in English unless `how`, which Playwright reads, says otherwise."""
        self.address = address
        self.context: BrowserContext = browser.new_context(**({"locale": "en-US"} | how))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.expected = r"$^"
        self.elsewhere: list[str] = []
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:  # noqa: ANN401
        if not request.url.startswith((self.address, "blob:")):
            self.elsewhere.append(request.url)

    def open(self, name: str = "try") -> Page:
        """Go to a page."""
        self.page.goto(f"{self.address}/console/#{name}")
        return self.page

    def ids(self) -> list[str]:
        """Of the items that are shown."""
        found: list[str] = self.page.eval_on_selector_all(".card", "all => all.map(one => one.dataset.id)")
        return found

    def settled(self) -> list[str]:
        """The list once the answer to the latest question is there."""
        expect(self.page.locator("#results")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator(".card").first).to_be_visible()
        return self.ids()

    def close(self) -> None:
        """Say what went wrong."""
        self.context.close()
        assert self.elsewhere == []
        assert [c for c in self.complaints if not re.search(self.expected, c)] == []


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    made = Visit(browser, address)
    yield made
    made.close()


def asked(page: Page, text: str) -> None:
    """Type, and wait for the answer to that: the one of before may be on its way."""
    with page.expect_response(
        lambda r: r.url.endswith("/v1/recommend") and text in str(r.request.post_data_json)
    ):
        page.fill("#who", text)


def liked(page: Page, number: int) -> str:
    """Press a heart; returns whose."""
    card = page.locator(".card").nth(number)
    item = card.get_attribute("data-id")
    with page.expect_response("**/v1/recommend"):
        card.get_by_role("button", name="Like").click()
    assert item is not None
    return item


def test_words_make_a_list_and_a_like_changes_it(visit: Visit, model: Recommender) -> None:
    page = visit.open()
    popular = visit.settled()
    expect(page.get_by_role("heading", name="Popular now")).to_be_visible()
    asked(page, WORDS)
    expect(page.get_by_role("heading", name="For you")).to_be_visible()
    by_words = visit.settled()
    assert by_words != popular
    assert page.locator(".card h3").first.inner_text() == model.title(by_words[0])
    meter = page.get_by_role("meter")
    assert meter.get_attribute("aria-valuenow") == "0"
    expect(page.locator(".card .reason-bar").first).to_have_attribute("aria-label", re.compile("your words"))
    item = liked(page, 1)
    expect(page.locator(f'.card[data-id="{item}"]')).to_have_count(0)
    expect(meter).not_to_have_attribute("aria-valuenow", "0")
    expect(page.locator("#likes")).to_contain_text(model.title(item))
    assert visit.settled() != [i for i in by_words if i != item]
    expect(page.locator(".move").first).to_be_visible()
    expect(page.locator("#announcer")).to_contain_text(re.compile(r"Liked .*\d+ new, \d+ rose, \d+ fell"))
    # taken back, the list is what the words alone made
    with page.expect_response("**/v1/recommend"):
        page.get_by_role("button", name="No longer like").click()
    expect(meter).to_have_attribute("aria-valuenow", "0")
    assert visit.settled() == by_words


def test_an_answer_that_comes_late_is_not_shown(visit: Visit) -> None:
    page = visit.open()
    visit.settled()
    held: list[Route] = []
    page.route(
        "**/v1/recommend",
        lambda r: held.append(r) if "slow" in (r.request.post_data or "") else r.continue_(),
    )
    with page.expect_request(lambda r: "slow" in (r.post_data or "")):
        page.fill("#who", "slow tea")
    asked(page, WORDS)
    latest = visit.settled()
    held[0].fulfill(json={"request_id": "x", "model_version": "v1", "items": []})
    page.wait_for_timeout(300)
    assert visit.ids() == latest


def test_why_and_what_is_similar(visit: Visit, model: Recommender) -> None:
    page = visit.open()
    asked(page, WORDS)
    first = visit.settled()[0]
    page.get_by_role("button", name="Why").first.click()
    panel = page.get_by_role("dialog")
    expect(panel).to_contain_text("your words")
    expect(panel).to_contain_text(first)
    similar = model.similar(first, 1)[0][0]
    panel.get_by_role("button", name=model.title(similar), exact=True).click()
    expect(panel.get_by_role("heading", level=2)).to_have_text(model.title(similar))
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()


def test_a_category_leaves_the_others_out(visit: Visit, shop: Shop) -> None:
    page = visit.open()
    visit.settled()
    chip = page.locator("fieldset .chip").first
    name = chip.inner_text()
    with page.expect_response("**/v1/recommend"):
        chip.click()
    expect(page.locator("fieldset .chip").first).to_have_attribute("aria-pressed", "true")
    of = dict(zip(shop.item_ids, shop.items.column("categories").to_pylist(), strict=True))
    assert all(name in of[item] for item in visit.settled())


def test_remembered_across_visits_and_forgotten(visit: Visit, kept: Store) -> None:
    page = visit.open()
    visit.settled()
    item = liked(page, 0)
    with page.expect_response("**/v1/events"):
        page.get_by_label("Remember me").check()
    expect(page.locator("#forget")).to_be_focused()
    visitor = page.evaluate("localStorage.getItem('kindling.visitor')")
    second = liked(page, 0)
    assert [event.item_id for event in kept.people([visitor], 9)[visitor].events] == [item, second]
    page.reload()
    assert not {item, second} & set(visit.settled())
    expect(page.locator(".chip.liked")).to_have_count(2)
    with page.expect_response(lambda r: r.request.method == "DELETE"):
        page.get_by_role("button", name="Forget me").click()
    expect(page.locator(".chip.liked")).to_have_count(0)
    assert kept.people([visitor], 9)[visitor].events == []
    assert page.evaluate("localStorage.getItem('kindling.visitor')") is None


def test_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    visit.settled()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#who")).to_be_focused()
    page.keyboard.type(WORDS)
    with page.expect_response("**/v1/recommend"):
        page.keyboard.press("Enter")
    before = visit.settled()
    while not page.evaluate("document.activeElement.dataset.role === 'like'"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement !== document.body")
    with page.expect_response("**/v1/recommend"):
        page.keyboard.press("Enter")
    after = visit.settled()
    assert before[0] not in after
    # the focus goes on in the place of the card that has gone
    assert page.evaluate("document.activeElement.closest('.card').dataset.id") == after[0]


def test_a_key_is_asked_for_and_kept_in_the_tab(
    browser: Browser, model: Recommender, shop: Shop, tmp_path: Path
) -> None:
    store = file_store(tmp_path)
    with serving(
        create_app(lambda: model, store, ServeConfig(auth="keys"), layout=Layout(shop.out))
    ) as address:
        visit = Visit(browser, address)
        visit.expected = "status of 40[13]"
        page = visit.open()
        expect(page.locator("#key-dialog")).to_be_visible()
        key = store.keys.add("console", ["read"])
        page.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Enter")
        visit.settled()
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
        page.get_by_role("link", name="Versions").click()
        expect(page.get_by_role("alert")).to_contain_text("does not open that")
        visit.close()
    store.close()


def test_a_new_item_and_whom_it_reaches(visit: Visit) -> None:
    page = visit.open("new")
    page.get_by_label("Title").fill("Two-person tent")
    page.get_by_label("Whom do you have in mind?").fill(f"{WORDS}\n我喜欢喝茶")
    page.get_by_label("Show ids").check()
    with page.expect_response("**/v1/admin/items/audience"):
        page.get_by_role("button", name="Find out").click()
    expect(page.get_by_role("heading", name="Reach", exact=True)).to_be_visible()
    expect(page.locator("main")).to_contain_text(WORDS)
    expect(page.get_by_text(re.compile(r"place \d+")).first).to_be_visible()
    page.get_by_role("heading", name="Its neighbours").wait_for()


def test_versions_go_back_and_forth(browser: Browser, out: Path, tmp_path: Path) -> None:
    holder = CurrentRecommender(out, 0.05)
    publish(out, "v2")
    point_current(Layout(out), "v1")
    store = file_store(tmp_path)
    with serving(create_app(holder, store, CONFIG.serve, layout=Layout(out))) as address:
        visit = Visit(browser, address)
        page = visit.open("versions")
        page.get_by_role("button", name="Put into service: v2").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_role("status")).to_have_text("v2 is in service.")
        expect(page.get_by_role("article", name="v2")).to_contain_text("in service")
        assert holder().version == "v2"
        page.get_by_role("button", name="Back to the one before").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_role("status")).to_have_text("v1 is in service.")
        assert holder().version == "v1"
        visit.close()
    holder.close()
    store.close()


def _figures(second: int) -> str:
    """What the service would tell at a second: 5 requests more in each, four of 10 ms and one of 80 ms."""
    name, n = 'kindling_request_seconds_bucket{route="/v1/recommend",le=', 5 * second
    return "\n".join(
        [
            "# TYPE kindling_request_seconds histogram",
            f'{name}"0.01"}} {4 * second}', f'{name}"0.1"}} {n}', f'{name}"+Inf"}} {n}',
            f'kindling_request_seconds_count{{route="/v1/recommend"}} {n}',
            f'kindling_request_seconds_count{{route="/metrics"}} {1000 * second}',
            f'kindling_lists_total{{source="fallback"}} {second}',
            f'kindling_lists_total{{source="text"}} {3 * second}',
            f"kindling_encode_texts_sum {6 * second}", f"kindling_encode_texts_count {2 * second}",
        ]
    )  # fmt: skip


def test_charts_of_the_services_figures(visit: Visit) -> None:
    seconds = iter(range(2, 10_000, 2))  # the page asks every two seconds
    visit.page.route(
        "**/metrics", lambda r: r.fulfill(content_type="text/plain", body=_figures(next(seconds)))
    )
    page = visit.open("health")
    chart = lambda name: page.locator(".chart", has_text=name)  # noqa: E731
    expect(chart("Lists with nothing known").locator("strong")).to_have_text("25 %")
    expect(chart("Texts encoded").locator("strong")).to_have_text("3.0")
    expect(chart("Requests per second").locator("strong")).to_have_text(re.compile(r"^\d\.\d/s$"))
    # by a straight line within the bucket: 2.5 of 4 in 0 to 10 ms; 0.75 of the one in 10 to 100 ms
    expect(chart("Answer time").locator("strong").nth(0)).to_have_text("6.3 ms")
    expect(chart("Answer time").locator("strong").nth(1)).to_have_text("78 ms")
    expect(chart("Events per second")).to_contain_text("No data yet")


def test_charts_know_the_services_figures_by_name(model: Recommender, kept: Store) -> None:
    names = re.findall(r'"(kindling_\w+)"', (CONSOLE / "health.js").read_text(encoding="utf-8"))
    assert len(names) == 6
    with TestClient(create_app(lambda: model, kept, CONFIG.serve)) as client:
        client.post("/v1/recommend", json={})
        client.post("/v1/events", json={"events": [{"user_id": "a", "item_id": "b", "timestamp": 1}]})
        told = client.get("/metrics").text
    for name in names:
        assert re.search(rf"^{name}(_bucket)?[{{ ]", told, re.MULTILINE), name


@pytest.mark.parametrize(("locale", "theme", "width"), [("zh-CN", "dark", 360), ("en-US", "light", 1280)])
def test_every_page_fits_and_is_accessible(
    browser: Browser, address: str, locale: str, theme: str, width: int
) -> None:
    visit = Visit(
        browser, address, locale=locale, color_scheme=theme, viewport={"width": width, "height": 740},
        reduced_motion="reduce",
    )  # fmt: skip
    visit.page.route("**/metrics", lambda r: r.fulfill(content_type="text/plain", body=_figures(2)))
    page = visit.open()
    for name in PAGES:
        page.locator(f'nav a[href="#{name}"]').click()
        _fill(visit, name)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        found = Axe().run(page)
        assert len(found.response["passes"]) > 15
        assert found.violations_count == 0, found.generate_report()
    assert page.locator("html").get_attribute("data-theme") == theme
    assert page.locator("html").get_attribute("lang") == ("zh-Hans" if locale == "zh-CN" else "en")
    visit.close()


def _fill(visit: Visit, name: str) -> None:
    """Have a page show what it can."""
    page = visit.page
    if name == "new":
        page.locator("#field-title").fill("双人帐篷")
        page.locator(".audience .surface").first.wait_for()
    elif name == "try":
        page.locator("#who").fill(WORDS)
        visit.settled()
        page.locator(".heart").first.click()
        page.locator(".chip.liked").wait_for()
        visit.settled()
    else:
        page.locator(".version, .chart svg").first.wait_for()


def test_language_and_colours_can_be_switched_and_stay(visit: Visit) -> None:
    page = visit.open()
    visit.settled()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("您想要什么？")
    page.get_by_role("button", name="深色").click()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("您想要什么？")
    visit.settled()
    expect(page.get_by_role("button", name="深色")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground


def test_every_language_has_every_word_that_is_used(visit: Visit) -> None:
    page = visit.open()
    words = page.evaluate("import('/console/words.js').then(m => m.WORDS)")
    assert set(words) == {"en", "zh"}
    assert words["en"].keys() == words["zh"].keys()
    for key, text in words["en"].items():
        places = [sorted(re.findall(r"\{\w+\}", t)) for t in (text, words["zh"][key])]
        assert places[0] == places[1], key
    scripts = "".join(
        path.read_text(encoding="utf-8") for path in CONSOLE.iterdir() if path.suffix in (".js", ".html")
    )
    used = set(re.findall(r"\bt\(\"(\w+)\"", scripts)) | set(
        re.findall(r"data-t(?:-label)?=\"(\w+)\"", scripts)
    )
    assert len(used) > 60
    assert used <= words["en"].keys()


def test_pages_say_what_they_may_load(model: Recommender, kept: Store) -> None:
    with TestClient(create_app(lambda: model, kept, ServeConfig(auth="keys"))) as client:
        home = client.get("/", follow_redirects=False)
        assert (home.status_code, home.headers["Location"]) == (307, "console/")
        page = client.get("/console/")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["Cache-Control"] == "no-cache"
        again = client.get("/console/", headers={"If-None-Match": page.headers["ETag"]})
        assert again.status_code == 304
        for path in CONSOLE.iterdir():
            found = client.get(f"/console/{path.name}")
            assert found.status_code == 200
            assert found.headers["Content-Security-Policy"] == policy
        assert client.get("/console/app.js").headers["Content-Type"].startswith("text/javascript")
        for path in ("/console/nothing.js", "/console/../api.py", "/console/%2e%2e/api.py"):
            assert client.get(path).status_code == 404
