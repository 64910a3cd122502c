"""The item browser, opened from disk and clicked through in Debian's Chromium."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
from browser_runs import CSP, HOSTILE, item, make_run

from probes import analysis
from probes.report import browser

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

ITEMS = 500
EXTRAS = {"entropy": 0.12345678, HOSTILE: math.nan, "__proto__": -1e9}
Open = Callable[..., "playwright.Page"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the browser of 500 items under the study's arms at two frame counts."""
    folder = tmp_path_factory.mktemp("chromium")
    items = [item(n) for n in range(ITEMS)]
    items[7] = item(7, question=f"why {HOSTILE}?", options=(HOSTILE, "b", "c", "d", "e"))
    with pytest.MonkeyPatch.context() as patch:
        run = make_run(patch, folder / "run", items=items)
    frame = analysis.load(run)
    given = [list(EXTRAS.items()) if one == "clip/3 é" else [] for one in frame["item_id"]]
    frame["extras"] = pd.array(given, dtype=frame["extras"].dtype)
    fragment = browser.section([run], frame)
    page = folder / "report.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>report</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{CSP}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>:root{color-scheme:light dark}body{font:16px sans-serif;margin:1rem}</style>"
        f'<h2 id="tables">Tables</h2><p>elsewhere</p><h2>Items</h2>{fragment}</html>',
        "utf-8",
    )
    return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(chromium: playwright.Browser, document: Path) -> Iterator[Open]:
    """Open the page; afterwards nothing was asked of a network and nothing went wrong."""
    requests: list[str] = []
    wrong: list[str] = []
    contexts = []

    def start(fragment: str = "", width: int = 1280, scheme: str = "light") -> playwright.Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        address = document.as_uri()

        def watch(route: playwright.Route) -> None:
            if route.request.url.split("#")[0] == address:
                route.continue_()
            else:
                requests.append(route.request.url)
                route.abort()

        context.route(lambda url: not url.startswith("data:"), watch)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda line: wrong.append(f"{line.type}: {line.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
        page.goto(address + fragment)
        page.wait_for_selector("#ib-app:not([hidden])")
        return page

    yield start
    titles = [page.title() for context in contexts for page in context.pages]
    for context in contexts:
        context.close()
    assert requests == []
    assert wrong == []
    assert set(titles) <= {"report"}


def count(page: playwright.Page) -> int:
    return int(page.locator("#ib-count").inner_text().split()[0])


def question(page: playwright.Page) -> str:
    return str(page.locator(".ib-question").inner_text())


def undecoded(page: playwright.Page) -> int:
    """How many pictures of the item shown could not be decoded."""
    return int(
        page.evaluate(
            """async () => {
              const all = [...document.querySelectorAll("#ib-item img")];
              await Promise.allSettled(all.map((one) => one.decode()));
              return all.length ? all.filter((one) => !(one.naturalWidth > 0)).length : -1;
            }"""
        )
    )


def test_five_hundred_items_open_and_every_page_of_them_can_be_walked(
    open_page: Open, tmp_path: Path
) -> None:
    page = open_page()
    assert count(page) == ITEMS
    assert page.locator("#ib-notes").count() == 0
    assert page.locator("#ib-item .ib-warning").count() == 0
    assert page.locator("#ib-list button").count() == 50
    assert page.locator(".ib-arm").count() == 7
    assert undecoded(page) == 0
    assert page.evaluate("location.hash") == ""  # untouched until somebody moves
    seen = set()
    for number in range(1, 11):
        assert page.locator("#ib-page").inner_text() == f"page {number} of 10"
        seen |= set(page.locator(".ib-row-sub").all_inner_texts())
        if number < 10:
            page.click("#ib-page-on")
    assert len(seen) == ITEMS
    assert page.locator("#ib-page-on").is_disabled()
    page.locator("#ib-list button").last.click()
    assert question(page) == "what happens in number 499?"
    page.screenshot(path=tmp_path / "browser.png")
    assert (tmp_path / "browser.png").stat().st_size > 10_000


def test_next_and_previous_by_button_and_by_key(open_page: Open) -> None:
    page = open_page()
    assert page.locator("#ib-previous").is_disabled()
    page.click("#ib-next")
    assert question(page) == "what happens in number 1?"
    assert page.locator("#ib-place").inner_text() == "item 2 of 500"
    page.keyboard.press("j")
    page.keyboard.press("ArrowRight")
    assert question(page) == "what happens in number 3?"
    page.keyboard.press("k")
    assert question(page) == "what happens in number 2?"
    assert "item=clip%2F2" in page.evaluate("location.hash")
    current = page.locator('#ib-list [aria-current="true"]')
    assert "number 2?" in current.inner_text()
    page.fill("#ib-search", "j")  # typing does not move to another item
    page.keyboard.press("k")
    assert page.locator("#ib-search").input_value() == "jk"


def test_keys_outside_the_browser_are_left_alone(open_page: Open) -> None:
    page = open_page()
    page.click("text=elsewhere")
    page.keyboard.press("j")
    assert question(page) == "what happens in number 0?"


def test_ready_made_filters_count_what_the_records_say(open_page: Open, document: Path) -> None:
    page = open_page()
    frame = analysis.load(document.parent / "run")
    frame = frame[frame["frames"] == 2]
    right = frame.pivot(index="item_id", columns=["arm", "role"], values="correct").astype(bool)
    choice = frame.pivot(index="item_id", columns=["arm", "role"], values="choice")
    base, vcot = right["baseline"], right["vcot"]
    expected = {
        "image wrong, video right (baseline)": (~base["image"] & base["video"]).sum(),
        "image right, video wrong (baseline)": (base["image"] & ~base["video"]).sum(),
        "vCoT: image became right": (~base["image"] & vcot["image"]).sum(),
        "vCoT: video became wrong": (base["video"] & ~vcot["video"]).sum(),
        "members differ (baseline)": (
            choice["baseline", "image"] != choice["baseline", "video"]
        ).sum(),
        "unparsed or failed": 0,
    }
    for label, number in expected.items():
        chip = page.locator(f'[data-filter="{label}"]')
        assert chip.inner_text().split()[-1] == str(number)
        chip.click()
        assert chip.get_attribute("aria-pressed") == "true"
        assert count(page) == number
        if number:
            assert page.locator("#ib-list button").count() == min(50, number)
        else:
            assert "No item meets" in page.locator("#ib-item").inner_text()
        chip.click()
        assert count(page) == ITEMS


def test_a_control_member_has_ready_made_filters_too(
    chromium: playwright.Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(
        monkeypatch, tmp_path / "run", "pair=tiny_control", items=[item(n) for n in range(4)]
    )
    fragment = browser.section([run], analysis.load(run))
    page = chromium.new_page()
    page.set_content(f"<!DOCTYPE html><title>report</title>{fragment}")
    page.wait_for_selector("#ib-app:not([hidden])")
    labels = [chip.get_attribute("data-filter") for chip in page.locator("#ib-chips button").all()]
    page.close()
    assert labels[:2] == [
        "image wrong, control right (baseline)",
        "image right, control wrong (baseline)",
    ]


def test_right_and_wrong_can_be_asked_arm_by_arm(open_page: Open, document: Path) -> None:
    page = open_page()
    frame = analysis.load(document.parent / "run")
    frame = frame[(frame["frames"] == 4)]
    right = frame.pivot(index="item_id", columns=["arm", "role"], values="correct").astype(bool)
    page.select_option("#ib-frames", "4")
    page.click(".ib-more summary")
    cell = page.get_by_role("button", name="blind, video member: any")
    cell.click()
    assert count(page) == right["blind", "video"].sum()
    page.get_by_role("button", name="blind, video member: right").click()
    assert count(page) == (~right["blind", "video"]).sum()
    page.get_by_role("button", name="vcot, image member: any").click()
    assert count(page) == (~right["blind", "video"] & right["vcot", "image"]).sum()
    page.click("#ib-clear")
    assert count(page) == ITEMS


def test_text_and_stratum_narrow_the_list(open_page: Open) -> None:
    page = open_page()
    page.fill("#ib-search", '"3 of 77" THING')
    expect(page.locator("#ib-count")).to_have_text("1 of 500 items")
    assert question(page) == "what happens in number 77?"
    page.fill("#ib-search", "onerror")  # occurs in infills
    expect(page.locator("#ib-count")).not_to_have_text("1 of 500 items")
    hits = count(page)
    assert 1 < hits < ITEMS
    page.select_option("#ib-stratum", "s1")
    assert 0 < count(page) < hits
    assert "s1" in page.locator(".ib-row-sub").first.inner_text()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_address_leads_to_its_item(
    width: int, scheme: str, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(f"#item={quote('clip/321 é', safe='')}&frames=4", width, scheme)
    assert question(page) == "what happens in number 321?"
    assert page.locator("#ib-frames").input_value() == "4"
    assert page.locator("#ib-page").inner_text() == "page 7 of 10"
    top = page.evaluate("document.querySelector('#ib-main').getBoundingClientRect().top")
    assert abs(top) < 30
    # Nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    link = page.locator("#ib-link").get_attribute("href")
    page.evaluate("link => { location.hash = link }", "#tables")
    assert question(page) == "what happens in number 321?"  # not the browser's anchor
    page.evaluate("() => { location.hash = '#item=clip%2F5%20%C3%A9' }")
    expect(page.locator(".ib-question")).to_have_text("what happens in number 5?")
    page.evaluate("link => { location.hash = link }", link)
    expect(page.locator(".ib-question")).to_have_text("what happens in number 321?")
    page.evaluate("() => { location.hash = '#item=nobody' }")
    page.wait_for_selector("#ib-lost:not([hidden])")
    assert "no item nobody" in page.locator("#ib-lost").inner_text()
    page.screenshot(path=tmp_path / "item.png")


def test_hostile_text_is_shown_to_the_letter(open_page: Open) -> None:
    page = open_page(f"#item={quote('clip/7 é', safe='')}")
    assert page.locator(".ib-question").text_content() == f"why {HOSTILE}?"
    options = page.locator(".ib-options li").first.text_content()
    assert HOSTILE in options
    page.fill("#ib-search", "onerror")
    expect(page.locator("#ib-count")).not_to_have_text("500 of 500 items")
    page.click("#ib-next")  # an item whose infills are hostile
    infill = page.locator(".ib-arm .ib-between .ib-words")
    shown = [text for text in infill.all_text_contents() if "onerror" in text]
    assert shown
    # The infill's steps normalised the white space.
    assert all(" ".join(HOSTILE.split()) in text for text in shown)
    assert page.locator("#ib-root img[src='x']").count() == 0


def test_arms_show_their_own_parts(open_page: Open) -> None:
    page = open_page("#item=clip%2F20%20%C3%A9&frames=4")

    def card(arm: str) -> playwright.Locator:
        return page.locator(f'.ib-arm[data-arm="{arm}"]')

    assert card("baseline").locator(".ib-frame").count() == 4
    assert card("baseline").locator(".ib-between").count() == 0
    vcot = card("vcot").locator(".ib-parts > li")
    kinds = [
        "frame" if "ib-frame" in name else "gap"
        for name in vcot.evaluate_all("all => all.map((one) => one.className)")
    ]
    assert kinds == ["frame", "gap", "frame", "gap", "frame", "gap", "frame", "gap"]
    assert card("blind").locator("img").count() == 0
    borrowed = card("visual_perturbation")
    assert borrowed.locator(".ib-caption").first.inner_text() == "donor's frame 1 of 4"
    donor = borrowed.locator("header a").inner_text()
    assert donor != "clip/20 é"
    own, other = (
        card(arm).locator(".ib-frame img").evaluate_all("all => all.map((one) => one.src)")
        for arm in ("baseline", "visual_perturbation")
    )
    assert not set(own) & set(other)
    borrowed.locator("header a").click()  # the donor is an item, too
    assert donor in page.locator(".ib-facts").inner_text()
    shown = card("baseline").locator(".ib-frame img").evaluate_all("all => all.map((o) => o.src)")
    assert shown == other


def test_answers_show_probabilities_and_the_right_answer(open_page: Open, document: Path) -> None:
    page = open_page("#item=clip%2F20%20%C3%A9&frames=4")
    frame = analysis.load(document.parent / "run").set_index(["item_id", "arm", "role", "frames"])
    card = page.locator('.ib-arm[data-arm="vcot"]')
    rows = card.locator(".ib-answers tbody tr")
    assert rows.count() == 5
    for column, role in enumerate(("image", "video")):
        record = frame.loc[("clip/20 é", "vcot", role, 4)]
        numbers = card.locator(f"tbody td:nth-child({column + 2}) b").all_inner_texts()
        assert sum(map(float, numbers)) == pytest.approx(1, abs=0.01)
        chosen = rows.nth(int(record["choice"])).locator("td").nth(column)
        assert "chosen" in chosen.inner_text()
        assert max(map(float, numbers)) == float(chosen.locator("b").inner_text())
        verdict = card.locator("thead th").nth(column + 1).inner_text()
        assert ("right" if record["correct"] else "wrong") in verdict
    assert rows.nth(20 % 5).get_attribute("data-right") == ""
    assert page.locator(".ib-options li").nth(0).inner_text().endswith("✓ right answer")
    page.select_option("#ib-member", "video")
    assert card.locator("thead th").count() == 2
    page.select_option("#ib-arm", "blind")
    assert page.locator(".ib-arm").count() == 1


def test_further_numbers_of_an_answer_are_shown_below_it(open_page: Open) -> None:
    page = open_page("#item=clip%2F3%20%C3%A9&frames=4")
    rows = page.locator('.ib-arm[data-arm="vcot"] .ib-answers tfoot tr')
    shown = [one.locator("th, td").all_text_contents() for one in rows.all()]
    assert [row for row in shown if row[0] in EXTRAS] == [
        ["entropy", "0.123457", "0.123457"],
        [HOSTILE, "nan", "nan"],
        ["__proto__", "-1e+09", "-1e+09"],
    ]
    page.click("#ib-next")
    assert set(EXTRAS).isdisjoint(page.locator(".ib-answers tfoot th").all_text_contents())


def test_a_frame_opens_large_and_its_neighbours_follow(open_page: Open) -> None:
    page = open_page("#item=clip%2F20%20%C3%A9&frames=4")
    page.locator('.ib-arm[data-arm="baseline"] .ib-frame button').nth(1).click()
    big = page.locator("#ib-big")
    assert big.is_visible()
    caption = page.locator("#ib-big-caption")
    assert "frame 2 of 4" in caption.inner_text()
    assert "run/frames/" in caption.inner_text()
    picture = page.locator("#ib-big-picture")
    assert picture.evaluate("async (one) => { await one.decode(); return one.naturalWidth }") > 0
    page.keyboard.press("ArrowRight")
    assert "frame 3 of 4" in caption.inner_text()
    page.click("#ib-big-back")
    page.click("#ib-big-back")
    assert "frame 1 of 4" in caption.inner_text()
    assert page.locator("#ib-big-back").is_disabled()
    page.keyboard.press("Escape")
    assert not big.is_visible()
    assert question(page) == "what happens in number 20?"


def test_controls_have_names_and_the_count_is_announced(open_page: Open) -> None:
    page = open_page()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("#ib-root button, #ib-root select, #ib-root input")]
          .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() ||
                             one.closest("label")))
          .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("#ib-count").get_attribute("aria-live") == "polite"
    assert page.locator("#ib-item img:not([alt])").count() == 0
    marks = page.locator("#ib-item .ib-mark")
    assert all(text.strip() for text in marks.all_text_contents())  # never a colour alone
