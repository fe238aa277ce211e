"""Equations become MathML, which browsers show without a script from the network."""

import latex2mathml.converter
from docutils import nodes


def inline(translator, node):
    translator.body.append(
        latex2mathml.converter.convert(node.astext(), display="inline")
    )
    raise nodes.SkipNode


def displayed(translator, node):
    equation = latex2mathml.converter.convert(node.astext().strip(), display="block")
    translator.body.append(f'<div class="math" tabindex="0">{equation}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
