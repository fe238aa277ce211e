"""The HTML reports in a real browser: wide and narrow, light and dark."""

import collections
import dataclasses
import shutil

import pytest

from bn_keras.experiments.claims.page import page_of as page_of_claims
from bn_keras.experiments.comparison import figure_targets
from bn_keras.experiments.comparison.page import page_of as page_of_comparison
from bn_keras.lab.html import to_html
from tests.experiments.claims.reported import claims_of_every_verdict
from tests.experiments.comparison import made_up

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS, SCHEMES = (1280, 360), ("light", "dark")
ARMS = (None, "batch", ("group", {"groups": 4}))
# The texts of a picture that lie on each other by more than a fraction of the lower one's height.
OVERLAPS = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([words, a], i) => texts.slice(i + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.35 * Math.min(a.height, b.height)
  ).map(([others]) => words + ' | ' + others));
})"""
# The elements that stick out of the page without a container that scrolls.
TARGETS = (
    "() => [...document.querySelectorAll('a')].map(a => [a.getAttribute('href'), !!document.querySelector(a.hash)])"
)


@dataclasses.dataclass
class Rendering:
    """A page in the browser, and what it has said and asked for since it was opened."""

    page: object
    messages: list
    requests: list


def comparison_document():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_targets, "LEVELS", 4)
        return to_html(page_of_comparison(made_up.comparison(norms=ARMS, trials=4, seeds=2, steps=400)))


DOCUMENTS = {
    "claims": lambda: to_html(page_of_claims(claims_of_every_verdict())),
    "comparison": comparison_document,
}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=list(DOCUMENTS))
def rendering(request, browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(DOCUMENTS[request.param](), encoding="utf-8")
    page = browser.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda each: requests.append(each.url))
    page.goto(path.as_uri())
    yield Rendering(page, messages, requests)
    page.close()


@pytest.fixture(
    params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=lambda look: f"{look[0]} {look[1]}"
)
def looked_at(request, rendering):
    """The page at a width and in a colour scheme, with everything unfolded."""
    width, scheme = request.param
    rendering.page.set_viewport_size({"width": width, "height": 800})
    rendering.page.emulate_media(color_scheme=scheme)
    rendering.page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    return rendering


def test_a_page_fits_loads_nothing_and_pleases_axe(looked_at):
    axe = pytest.importorskip(
        "axe_core_python.sync_playwright", reason="axe is not installed: pip install axe-core-python"
    )
    page = looked_at.page
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    found = axe.Axe().run(page)
    assert not [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert not looked_at.messages
    assert [url.partition(":")[0] for url in looked_at.requests] == ["file"]


def test_the_colours_follow_the_scheme(looked_at):
    dark = looked_at.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    for name in ("body", "figure .scroll"):
        color = looked_at.page.evaluate(f"getComputedStyle(document.querySelector('{name}')).backgroundColor")
        red = int(color.removeprefix("rgb(").partition(",")[0])
        assert red < 60 if dark else red > 240


def test_every_link_leads_to_an_element(rendering):
    links = rendering.page.evaluate(TARGETS)
    assert len(links) > 5
    assert not [href for href, found in links if not found]


def test_the_keyboard_reaches_the_skip_link_first_and_sees_the_focus(rendering):
    rendering.page.reload()
    rendering.requests.clear()
    rendering.page.keyboard.press("Tab")
    assert rendering.page.evaluate("document.activeElement.className") == "skip"
    assert rendering.page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    rendering.page.keyboard.press("Enter")
    assert rendering.page.evaluate("document.activeElement.id") == "page_content"


def test_the_words_of_a_picture_do_not_overlap(rendering):
    rendering.page.set_viewport_size({"width": 1280, "height": 800})
    overlaps = collections.Counter(rendering.page.evaluate(OVERLAPS))
    assert not overlaps
