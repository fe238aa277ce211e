"""Rewrites docstrings, which are Markdown with LaTeX equations, for Sphinx.

Sphinx reads reStructuredText. Napoleon takes care of Google's sections.
"""

import inspect
import re

CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
INLINE_EQUATION = re.compile(r"(?<!\$)\$([^$\n]+)\$(?!\$)")
LINK = re.compile(r"\[([^]]+)\]\((https?://[^)\s]+)\)")
NAMELESS = re.compile(r"\*\*(Those of .*?)\*\*")
LABEL = re.compile(r"(^|(?<=\. ))(Shapes|Dtypes|Source): ")


def to_restructured_text(lines: list[str]) -> list[str]:
    """Rewrites equations, code, links, tables and preformatted blocks of a docstring.

    >>> to_restructured_text(["$$ y = s x $$"])
    ['.. math::', '', '   y = s x', '']
    >>> to_restructured_text(["`y` follows:", "", "    y ← x"])
    ['``y`` follows::', '', '    y ← x']
    >>> to_restructured_text(["Example:", "", ">>> 1"])
    ['.. rubric:: Example', '', '>>> 1']
    """
    out, rest = [], list(lines)
    while rest:
        line = rest.pop(0)
        if line.lstrip().startswith("$$"):
            equation = [line]
            while (
                not "\n".join(equation).rstrip().endswith("$$")
                or "\n".join(equation).count("$$") < 2
            ):
                equation.append(rest.pop(0))
            out += displayed("\n".join(equation))
        elif line.lstrip().startswith("|"):
            table = [line]
            while rest and rest[0].lstrip().startswith("|"):
                table.append(rest.pop(0))
            out += listed(table)
        elif line == "Example:":
            out.append(".. rubric:: Example")
        elif line.lstrip().startswith(">>>"):
            out.append(line)
            while rest and rest[0].strip():
                out.append(rest.pop(0))
        elif opens_a_block(line, rest):
            out.append(inline(line) + ":")
            while rest and (not rest[0].strip() or indent(rest[0]) > indent(line)):
                out.append(rest.pop(0))
        else:
            out += split_labels(inline(line))
    return out


def displayed(text: str) -> list[str]:
    """A displayed equation, with what stands behind it in the same paragraph."""
    margin = " " * indent(text)
    equation = text.strip().strip("$").split("\n")
    return [
        margin + ".. math::",
        "",
        *(f"{margin}   {each.strip()}" for each in equation),
        "",
    ]


def listed(table: list[str]) -> list[str]:
    """The rows of a table, whose second line is a rule.

    >>> listed(["| a | b |", "| --- | --- |", "| `c` | d |"])[4:]
    ['   * - a', '     - b', '   * - ``c``', '     - d', '']
    """
    margin = " " * indent(table[0])
    out = ["", margin + ".. list-table::", margin + "   :header-rows: 1", ""]
    for row in [table[0], *table[2:]]:
        cells = [inline(cell.strip()) for cell in row.strip().strip("|").split("|")]
        out.append(f"{margin}   * - {cells[0]}")
        out += [f"{margin}     - {cell}" for cell in cells[1:]]
    return [*out, ""]


def opens_a_block(line: str, rest: list[str]) -> bool:
    """Whether a preformatted block follows: a colon, an empty line, an indent."""
    return (
        line.endswith(":")
        and len(rest) > 1
        and not rest[0].strip()
        and indent(rest[1]) > indent(line)
    )


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def inline(line: str) -> str:
    """A line of prose with its code, equations and links marked for reStructuredText.

    >>> inline("`bn_keras.surgery.fold` takes $m$ of `x`.")
    ':py:obj:`bn_keras.surgery.fold` takes :math:`m` of ``x``.'
    >>> inline("[Ioffe 2017](https://arxiv.org/abs/1702.03275) for `renorm`")
    '`Ioffe 2017 <https://arxiv.org/abs/1702.03275>`__ for ``renorm``'
    """
    parts = re.split(r"(`[^`]+`)", line)
    parts[::2] = [
        LINK.sub(r"`\1 <\2>`__", INLINE_EQUATION.sub(r":math:`\1`", part))
        for part in parts[::2]
    ]
    parts[1::2] = [CODE.sub(code, part) for part in parts[1::2]]
    return "".join(parts)


def code(match: re.Match) -> str:
    """Names in bn_keras lead to their entry."""
    text = match[1]
    return (
        f":py:obj:`{text}`" if re.fullmatch(r"bn_keras(\.\w+)+", text) else f"``{text}``"
    )


def split_labels(line: str) -> list[str]:
    """Shapes, dtypes and the source become paragraphs with a label in bold."""
    found = LABEL.search(line)
    if not found:
        return [line]
    before, label, after = line[: found.start()].rstrip(), found[2], line[found.end() :]
    return [*([before] if before else []), "", f"**{label}:** {after}"]


def setup(app):
    # Before napoleon, whose priority is 500: it reads the sections of what is left.
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-docstring", without_bold, priority=600)
    app.connect("autodoc-process-signature", signature_of_class)
    return {"parallel_read_safe": True}


def signature_of_class(app, what, name, obj, options, signature, returned):
    """Keras' layers have a `__new__` of any arguments; their constructors name them."""
    from sphinx.util.inspect import stringify_signature  # the tests have no Sphinx

    if what != "class":
        return signature, returned
    return stringify_signature(inspect.signature(obj), unqualified_typehints=True), None


def process(app, what, name, obj, options, lines):
    lines[:] = to_restructured_text(lines)


def without_bold(app, what, name, obj, options, lines):
    """Napoleon takes "Those of `BatchNorm`" for the name of an argument."""
    lines[:] = [NAMELESS.sub(r"\1", line) for line in lines]
