"""The page in a real browser: the whole way from a picture to an erased person."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import axe_core_python
import pytest
from crowd import BLUE, GREEN, HOSTILE, MODEL, RED
from playwright.sync_api import Browser, Page, expect, sync_playwright

from personsearch.store import open_store
from personsearch.store.audit import AuditLog
from personsearch.web.keys import Keys

Serving = Callable[..., AbstractContextManager[str]]

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
]
AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing; run: apt-get install chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=300_000
        )
        yield opened
        opened.close()


@contextmanager
def _page(browser: Browser, address: str, refusals: int = 0, **options: Any) -> Iterator[Page]:
    """The page in a profile of its own; it may not complain, nor ask anyone else."""
    context = browser.new_context(accept_downloads=True, **options)
    context.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert len(said) == refusals, said
    assert all("401" in text for text in said), said
    own = (address, f"blob:{address}")
    assert [url for url in asked if not url.startswith(own)] == []
    context.close()


def _accessible(page: Page) -> None:
    """Nothing that axe calls serious or critical."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then((result) => result.violations)")
    grave = [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert grave == []


def _no_sideways_scrolling(page: Page) -> None:
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0


def _until(page: Page, condition: str) -> None:
    """Waits; the browser's own way to wait is forbidden by the page's policy."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(200)
    raise AssertionError(condition)


def _send(page: Page, data: bytes, name: str = "query.png") -> None:
    before = page.locator(".query").count()
    file = {"name": name, "mimeType": "image/png", "buffer": data}
    page.set_input_files("#file", files=[file])
    expect(page.locator(".query")).to_have_count(before + 1)


def test_from_a_picture_to_an_erased_person(
    browser: Browser, store: Path, serving: Serving, png: Callable[..., bytes]
) -> None:
    with serving(store) as address, _page(browser, address) as page:
        expect(page.locator("#archive")).to_contain_text("3 cameras")
        _accessible(page)
        _send(page, png({20: RED, 120: BLUE}))
        expect(page.locator(".box")).to_have_count(2)
        expect(page.locator("#search")).to_be_disabled()
        page.locator(".box").nth(0).click()
        page.click("#search")
        expect(page.locator(".hit").first).to_be_visible()
        count = page.locator(".hit").count()
        assert count == 7
        first = page.locator(".hit").first
        assert float(first.locator("strong").inner_text()) > 0.99
        # A camera whose name is markup is shown as it is.
        expect(page.locator(".camera-name", has_text=HOSTILE).first).to_be_visible()
        assert page.title() == "personsearch"
        expect(page.locator("#timeline .camera")).to_have_count(3)
        _accessible(page)
        # The whole picture with the box of the hit.
        first.locator(".picture").click()
        expect(page.locator("#viewer .found")).to_be_visible()
        expect(page.locator("#viewer-facts")).to_contain_text("similarity")
        _accessible(page)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#viewer-title")).to_have_text("Hit 2")
        page.keyboard.press("Escape")
        expect(page.locator("#viewer")).to_be_hidden()
        # A clip of the walker in the video.
        page.locator(".hit", has_text="seen").locator(".picture").click()
        page.click("#viewer-clip")
        _until(page, "document.querySelector('#viewer video')?.readyState >= 2")
        page.keyboard.press("Escape")
        # Filters.
        page.click("#filters summary")
        page.locator("#cameras input[value=door]").check()
        expect(page.locator("#filters-set")).to_have_text("(1 set)")
        page.click("#search")
        expect(page.locator("#results-title")).to_have_text("1 hit")
        page.click("#clear-filters")
        page.click("#search")
        expect(page.locator(".hit")).to_have_count(count)
        # Marks.
        page.locator(".mark-right").nth(0).click()
        page.locator(".mark-wrong").nth(count - 1).click()
        page.click("#again")
        expect(page.locator("#chips .chip")).to_have_count(2)
        expect(page.locator(".hit")).to_have_count(count - 2)
        (entry,) = list(AuditLog(store).entries())[-1:]
        assert (len(entry.details["people"]), len(entry.details["unlike"])) == (1, 1)
        # More like this one.
        page.get_by_label("More like hit 1", exact=True).click()
        expect(page.locator("#chips .chip")).to_have_count(1)
        expect(page.locator(".hit")).to_have_count(count - 1)
        # A report.
        with page.expect_download() as download:
            page.click("#report-html")
        assert "data:image/jpeg" in Path(download.value.path()).read_text(encoding="utf-8")
        # Erasing asks first, and "keep" keeps.
        page.get_by_label("Select hit 1", exact=True).check()
        page.click("#erase")
        _accessible(page)
        page.click("#confirm-no")
        expect(page.locator(".hit")).to_have_count(count - 1)
        page.click("#erase")
        page.click("#confirm-yes")
        expect(page.locator("#status")).to_have_text(re.compile(r"views? (was|were) erased"))
        expect(page.locator(".hit")).to_have_count(count - 2)
    actions = [entry.action for entry in AuditLog(store).entries()]
    assert actions[-3:] == ["erase", "erased", "search"]


def test_with_the_keyboard_alone_in_the_dark(
    browser: Browser, store: Path, serving: Serving, png: Callable[..., bytes]
) -> None:
    with serving(store) as address, _page(browser, address, color_scheme="dark") as page:
        _send(page, png({20: GREEN, 120: BLUE}))
        page.locator("#file").focus()
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className") == "box":
                break
        page.keyboard.press("Space")
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        # Enter in a field of the form searches.
        page.locator("#filters summary").focus()
        page.keyboard.press("Enter")
        page.locator("#top").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".hit").first).to_be_visible()
        page.locator(".hit .picture").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#viewer .found")).to_be_visible()
        page.keyboard.press("Escape")
        focused = "document.activeElement.className"
        assert page.evaluate(focused) == "picture"
        page.locator("#timeline .mark").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#viewer")).to_be_visible()
        _accessible(page)


def test_on_a_phone_with_pasted_dropped_and_drawn(
    browser: Browser, store: Path, serving: Serving, png: Callable[..., bytes]
) -> None:
    with serving(store) as address, _page(browser, address, **PHONE) as page:
        for how in ("paste", "drop"):
            page.evaluate(
                """([how, bytes]) => {
                    const data = new DataTransfer();
                    const file = new File([new Uint8Array(bytes)], "a.png", {type: "image/png"});
                    data.items.add(file);
                    const event = how === "paste"
                        ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
                        : new DragEvent("drop", {dataTransfer: data, bubbles: true});
                    document.body.dispatchEvent(event);
                }""",
                [how, list(png({20: RED}))],
            )
            expect(page.locator("#status")).to_contain_text("found")
        expect(page.locator(".query")).to_have_count(2)
        page.locator(".numbers summary").first.click()
        for name, value in {"left": 100, "top": 20, "right": 150, "bottom": 90}.items():
            page.get_by_label(f"{name}, pixels").first.fill(str(value))
        page.get_by_text("Add box").first.click()
        expect(page.locator(".box")).to_have_count(3)
        page.click("#search")
        expect(page.locator(".hit").first).to_be_visible()
        _no_sideways_scrolling(page)
        _accessible(page)
        page.get_by_label("Open hit 1", exact=True).click()
        expect(page.locator("#viewer .found")).to_be_visible()
        _no_sideways_scrolling(page)


def test_it_asks_for_the_key(
    browser: Browser, store: Path, serving: Serving, png: Callable[..., bytes]
) -> None:
    secret = Keys(store).make("desk", ["search"])
    with serving(store) as address, _page(browser, address, refusals=2) as page:
        expect(page.locator("#key")).to_be_visible()
        _accessible(page)
        page.fill("#key-input", "psk_wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-why")).to_have_text("This key is not valid.")
        page.fill("#key-input", secret)
        page.keyboard.press("Enter")
        expect(page.locator("#archive")).to_contain_text("views of people")
        _send(page, png({20: RED}))
        page.click("#search")
        expect(page.locator(".hit").first).to_be_visible()
        _until(page, "document.querySelector('.hit img').naturalWidth > 0")
        assert page.locator(".hit input").count() == 0  # it does not allow erasing
        kept = page.evaluate("[Object.values(sessionStorage), localStorage.length]")
        assert kept == [[secret], 0]


def test_an_empty_archive_says_what_to_do(
    browser: Browser, tmp_path: Path, serving: Serving
) -> None:
    with open_store(tmp_path, model=MODEL, write=True):
        pass
    with serving(tmp_path) as address, _page(browser, address) as page:
        expect(page.locator("#empty pre")).to_have_text(
            f"personsearch index FOLDER --store {tmp_path}"
        )
        _accessible(page)
