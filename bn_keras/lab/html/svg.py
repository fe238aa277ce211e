"""A Matplotlib SVG as a part of an HTML page: ids of its own, a name, and the colours and the font of the page."""

import re
from xml.etree import ElementTree

# The colours that follow the page into dark mode, by the CSS variable that replaces each.
INK, PAPER, STRIP = "var(--ink)", "var(--card)", "var(--strip)"
COLORS = {"#000000": INK, "#333333": INK, "#ffffff": PAPER, "#f0f0f0": STRIP}
COLOR = re.compile("|".join(COLORS), re.IGNORECASE)
# The size and the weight stay, and the list of Matplotlib's fonts goes.
FONTS = re.compile(r"(font(?:-family)?: [^;']*)'[^;]*")
REFERENCE = re.compile(r"(url\(#|^#)")
DROPPED = ("metadata", "style")


def embed(svg: str, *, prefix: str, name: str, caption_id: str) -> str:
    """The `<svg>` element for a page.

    Args:
        svg: A whole SVG, as `bn_keras.lab.plot.svg` returns it.
        prefix: What all ids begin with, unique on the page; a str.
        name: The name for screen readers; a str.
        caption_id: The id of the element that describes the picture; a str.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in [child for child in parent if local(child.tag) in DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = local(element.tag)
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            element.set(local(key), with_page_style(with_prefix(local(key), value, prefix)))
    title = ElementTree.Element("title", {"id": f"{prefix}title"})
    title.text = name
    root.insert(0, title)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}title", "aria-describedby": caption_id}
    return ElementTree.tostring(root, encoding="unicode")


def local(name: str) -> str:
    """A name without its namespace, as HTML wants it.

    >>> local("{http://www.w3.org/2000/svg}path")
    'path'
    """
    return name.rpartition("}")[2]


def with_prefix(key: str, value: str, prefix: str) -> str:
    """The value of an attribute with the prefix on the id that it is or refers to."""
    if key == "id":
        return prefix + value
    return REFERENCE.sub(rf"\g<1>{prefix}", value) if key == "href" or "url(#" in value else value


def with_page_style(value: str) -> str:
    """The value of an attribute with the colours and the font of the page."""
    return FONTS.sub(r"\1var(--sans)", COLOR.sub(lambda match: COLORS[match.group().lower()], value))
