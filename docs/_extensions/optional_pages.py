"""Takes pages out of toctrees and links that are not written yet.

Commands write the page of the claims and the cards of the zoo when all runs are there.
"""

import pathlib
import posixpath
import re

from sphinx.util.matching import patfilter

GLOB = re.compile(r"^[\w./-]*\*[\w./*-]*$\n?", re.MULTILINE)
CARD = re.compile(r"\[([^]]+)\]\(([\w./-]+/README\.md)\)")
OVERVIEW = "models/README"


def setup(app):
    app.connect("source-read", drop_what_is_missing)
    return {"parallel_read_safe": True}


def drop_what_is_missing(app, docname, content):
    if ":glob:" in content[0]:
        content[0] = GLOB.sub(
            lambda found: glob_or_nothing(app, docname, found[0]), content[0]
        )
    if docname == OVERVIEW:
        folder = pathlib.Path(app.srcdir, docname).parent
        content[0] = CARD.sub(
            lambda found: found[0] if (folder / found[2]).exists() else found[1],
            content[0],
        )


def glob_or_nothing(app, docname, line: str) -> str:
    """The line, if a page matches; else nothing, as Sphinx warns of an empty match."""
    pattern = posixpath.normpath(
        posixpath.join("/" + posixpath.dirname(docname), line.strip())
    )
    return line if list(patfilter(app.env.found_docs, pattern.lstrip("/"))) else ""
