"""Globs of a toctree may match nothing.

Commands write the pages of the claims and of the zoo when all runs are there.
"""

import posixpath
import re

from sphinx.util.matching import patfilter

GLOB = re.compile(r"^[\w./-]*\*[\w./*-]*$\n?", re.MULTILINE)


def setup(app):
    app.connect("source-read", drop_empty_globs)
    return {"parallel_read_safe": True}


def drop_empty_globs(app, docname, content):
    if ":glob:" in content[0]:
        content[0] = GLOB.sub(lambda found: kept(app, docname, found[0]), content[0])


def kept(app, docname, line: str) -> str:
    """The line, if a page matches; else nothing."""
    pattern = posixpath.normpath(
        posixpath.join("/" + posixpath.dirname(docname), line.strip())
    ).lstrip("/")
    return line if list(patfilter(app.env.found_docs, pattern)) else ""
