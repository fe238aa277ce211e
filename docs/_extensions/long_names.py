"""Lets the long names in tables break after a slash, a double colon or an underscore.

The name of a test has more letters than a column has room for, and no space.
"""

import re

from docutils import nodes

LONG = 40
PLACES = re.compile(r"(?<=[/_])|(?<=::)")


def setup(app):
    app.connect("doctree-resolved", let_break)
    return {"parallel_read_safe": True}


def let_break(app, doctree, docname):
    if app.builder.format != "html":
        return
    for cell in doctree.findall(nodes.entry):
        for literal in list(cell.findall(nodes.literal)):
            text = literal.astext()
            if len(text) > LONG and " " not in text:
                first, *others = PLACES.split(text)
                literal.children = []
                literal += nodes.Text(first)
                for part in others:
                    literal += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]
