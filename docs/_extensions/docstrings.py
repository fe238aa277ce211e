"""Rewrites docstrings, which are Markdown with LaTeX equations, for Sphinx.

Sphinx reads reStructuredText. Napoleon takes care of Google's sections.
"""

import inspect
import re

CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
INLINE_EQUATION = re.compile(r"(?<!\$)\$([^$\n]+)\$(?!\$)")
LABEL = re.compile(r"(^|(?<=\. ))(Shapes|Dtypes|Source): ")


def to_restructured_text(lines: list[str]) -> list[str]:
    """Rewrites equations, code and preformatted blocks of a docstring.

    >>> to_restructured_text(["$$ y = s x $$"])
    ['.. math::', '', '   y = s x', '']
    >>> to_restructured_text(["`y` follows:", "", "    y ← x"])
    ['``y`` follows::', '', '    y ← x']
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
    """A line of prose with its code and equations marked for reStructuredText.

    >>> inline("`bn_keras.surgery.fold` takes $m$ of `x`.")
    ':py:obj:`bn_keras.surgery.fold` takes :math:`m` of ``x``.'
    """
    parts = re.split(r"(`[^`]+`)", line)
    parts[::2] = [INLINE_EQUATION.sub(r":math:`\1`", part) for part in parts[::2]]
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
