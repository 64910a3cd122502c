"""The whole report under its own policy, opened from disk in Debian's Chromium."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import report_pages
from browser_runs import HOSTILE, item, make_run

from probes import report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_the_page_opens_and_its_item_browser_works_under_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(n) for n in range(5)]
    items.append(item(5, question=f"why {HOSTILE}?", options=(HOSTILE, "b", "c", "d", "e")))
    run = make_run(monkeypatch, tmp_path / "run", items=items)
    address = report.write([run], tmp_path / "out").as_uri()
    report_pages.check((tmp_path / "out" / "report.html").read_text("utf-8"))
    wrong: list[str] = []
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 800, "height": 900})
        page.set_default_timeout(20_000)
        page.on("console", lambda line: wrong.append(f"{line.type}: {line.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith("data:") or asked.url.split("#")[0] == address
                else wrong.append(asked.url)
            ),
        )
        page.goto(address)
        page.wait_for_selector("#ib-app:not([hidden])")
        assert page.title() == "tiny on egoschema - interframe-probes"
        # The page itself never scrolls sideways: wide tables do so by themselves.
        assert page.evaluate("document.documentElement.scrollWidth") <= 800
        page.click("nav summary")
        page.click("nav[aria-label=Contents] a[href='#power']")
        expect(page.locator("#power")).to_be_in_viewport()
        pictures = page.locator("figure img")
        assert pictures.count() >= 5
        for at in range(pictures.count()):
            assert pictures.nth(at).evaluate("one => one.complete && one.naturalWidth > 300")
        page.click("details:has-text('Every contrast') summary")
        assert page.get_by_role("cell", name="gain").first.is_visible()
        page.fill("#ib-search", "why")
        expect(page.locator("#ib-count")).to_have_text(re.compile("^1 "))
        assert HOSTILE.split("“")[0] in page.inner_text("#ib-item").replace("\u2028", " ")
        assert wrong == []
        # On a phone the page keeps its width; pictures and tables scroll, their titles do not.
        page.set_viewport_size({"width": 420, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        wide = page.locator("figure:not(.narrow) img")
        for at in range(wide.count()):
            assert wide.nth(at).evaluate("one => one.clientWidth") >= 700
        # The answer's own figure shrinks instead, and little enough to be read.
        assert page.locator("figure.narrow img").evaluate("one => one.clientWidth / 1") > 330
        for caption in page.locator("caption:visible div").all():
            assert caption.evaluate("one => one.getBoundingClientRect().right") <= 420
        # Even markup that got into the page would neither load nor run anything.
        page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')"
        )
        page.wait_for_timeout(300)
        assert "dialog" not in wrong
        assert sum("Content Security Policy" in one for one in wrong) == 2
        browser.close()
