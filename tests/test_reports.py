"""The HTML reports in a real browser: wide and narrow, light and dark."""

import dataclasses
import shutil

import pytest

from bn_keras.experiments.claims.page import page_of
from bn_keras.lab.html import to_html
from tests.experiments.claims.reported import claims_of_every_verdict
from tests.experiments.comparison import reported

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LOOKS = [(1280, "light"), (360, "dark"), (360, "light"), (1280, "dark")]
DOCUMENTS = {
    "claims": lambda: to_html(page_of(claims_of_every_verdict())),
    "comparison": reported.document,
}
# The words of a picture that lie on each other by more than a third of their height.
OVERLAPS = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([words, a], i) => texts.slice(i + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.35 * Math.min(a.height, b.height)
  ).map(([others]) => words + ' | ' + others));
})"""
# The links, and whether the page has what they lead to.
LINKS = "() => [...document.querySelectorAll('a')].map(a => [a.getAttribute('href'), !!document.querySelector(a.hash)])"


@dataclasses.dataclass
class Rendering:
    """A page in the browser, and what it has said and asked for since it was opened."""

    page: object
    messages: list
    requests: list


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install playwright")
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
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    yield Rendering(page, messages, requests)
    page.close()


def look_at(page, width, scheme):
    """Gives the page a width and a colour scheme."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_a_page_fits_and_loads_nothing(rendering, width, scheme):
    look_at(rendering.page, width, scheme)
    assert rendering.page.evaluate("document.documentElement.scrollWidth") <= width
    assert not rendering.messages
    assert [url.partition(":")[0] for url in rendering.requests] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_colours_follow_the_scheme(rendering, width, scheme):
    look_at(rendering.page, width, scheme)
    for name in ("body", "figure .scroll"):
        color = rendering.page.evaluate(f"getComputedStyle(document.querySelector('{name}')).backgroundColor")
        red = int(color.removeprefix("rgb(").partition(",")[0])
        assert red < 60 if scheme == "dark" else red > 240


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), LOOKS[:2])
def test_axe_finds_no_violation(rendering, width, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe is missing: pip install axe-core-python")
    look_at(rendering.page, width, scheme)
    # The shapes of a picture are many, and its role hides them from a screen reader.
    found = axe.Axe().run(rendering.page, {"exclude": [["svg > *"]]}, {"resultTypes": ["violations"]})
    assert not [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert {"color-contrast", "svg-img-alt"} <= {rule["id"] for rule in found["passes"]}


def test_every_link_leads_to_an_element(rendering):
    links = rendering.page.evaluate(LINKS)
    assert len(links) > 5
    assert not [href for href, found in links if not found]


def test_the_words_of_a_picture_do_not_overlap(rendering):
    look_at(rendering.page, 1280, "light")
    assert not rendering.page.evaluate(OVERLAPS)


@pytest.mark.slow
def test_the_keyboard_shows_the_skip_link_first_and_jumps(rendering):
    rendering.page.keyboard.press("Tab")
    assert rendering.page.evaluate("document.activeElement.className") == "skip"
    assert rendering.page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    rendering.page.keyboard.press("Enter")
    assert rendering.page.evaluate("document.activeElement.id") == "page_content"
