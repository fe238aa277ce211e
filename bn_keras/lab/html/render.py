"""Writes a page as HTML. The same page gives the same bytes."""

import itertools
import re

from bn_keras.lab.extras import packages_of
from bn_keras.lab.html.page import Page, Picture
from bn_keras.lab.html.svg import embed

with packages_of("lab"):
    import jinja2
    import markupsafe

# The space between a figure and its per cent sign.
PER_CENT = re.compile(r"(?<=[\d)]) %")

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("bn_keras.lab", "html"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def to_html(page: Page) -> str:
    """The page as one HTML document.

    Args:
        page: A `Page`.

    Returns:
        The document; a str. It loads nothing and runs no script.

    >>> text = to_html(Page("Norms & speed", "What each norm costs.", ()))
    >>> "<h1>Norms &amp; speed</h1>" in text
    True
    """
    numbers = itertools.count(1)

    def new_id(kind: str) -> str:
        # No section has an underscore in its id.
        return f"{kind}_{next(numbers)}"

    def svg_of(picture: Picture, id: str) -> markupsafe.Markup:
        svg = embed(picture.svg, prefix=f"{id}_", name=picture.name, caption_id=f"{id}_caption")
        return markupsafe.Markup(svg)

    template = ENVIRONMENT.get_template("page.html.j2")
    return template.render(page=page, new_id=new_id, svg_of=svg_of, kind_of=kind_of)


def with_code(text: object) -> markupsafe.Markup:
    """Text whose words in backticks are code, and whose figures stay beside their per cent sign.

    >>> with_code("`batch` < `none`")
    Markup('<code>batch</code> &lt; <code>none</code>')
    >>> with_code("8.3 (8.1–8.8) %")
    Markup('8.3 (8.1–8.8)\\xa0%')
    """
    text = PER_CENT.sub("\N{NO-BREAK SPACE}%", str(text))
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return markupsafe.escape(text)
    kinds = itertools.cycle((markupsafe.escape, markupsafe.Markup("<code>{}</code>").format))
    return markupsafe.Markup("").join(kind(part) for kind, part in zip(kinds, parts, strict=False))


def kind_of(part: object) -> str:
    """The name of the class of a part, by which the template tells parts apart."""
    return type(part).__name__


ENVIRONMENT.filters["code"] = with_code
