"""A norm and its options as text: `"group:groups=8"`, on the command line and as the name of an arm."""

import ast
import math

OPENING, CLOSING = "([{", ")]}"


def norm_of(text: str) -> str | tuple[str, dict] | None:
    """The norm that a text names.

    Raises:
        ValueError: When an option is no `key=value`, or comes twice.

    >>> norm_of("none"), norm_of("batch"), norm_of("group:groups=8")
    (None, 'batch', ('group', {'groups': 8}))
    >>> norm_of("layer:axis=[1, 2]")
    ('layer', {'axis': [1, 2]})
    """
    name, colon, options = text.partition(":")
    name = None if name.strip().lower() == "none" else name.strip()
    if not colon:
        return name
    pairs = [option_of(part) for part in parts_of(options)]
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"expected each option once; received {text!r}.")
    return name, dict(pairs)


def norms_of(text: str) -> tuple[str | tuple[str, dict] | None, ...]:
    """The norms of a list; a part without a name is one more option of the norm before it.

    >>> norms_of("none,group:groups=8,epsilon=0.01,layer")
    (None, ('group', {'groups': 8, 'epsilon': 0.01}), 'layer')
    """
    texts = []
    for part in parts_of(text):
        key, sign, _ = part.partition("=")
        if texts and sign and ":" not in key:
            texts[-1] += "," + part
        elif part.strip():
            texts.append(part)
    return tuple(norm_of(each) for each in texts)


def parts_of(text: str) -> list[str]:
    """The parts between commas; a comma within brackets or quotes separates nothing.

    >>> parts_of("axis=[1, 2],name='a,b'")
    ['axis=[1, 2]', "name='a,b'"]
    """
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in OPENING:
            depth += 1
        elif sign in CLOSING:
            depth -= 1
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    if depth or quote:
        raise ValueError(f"expected every bracket and quote to be closed; received {text!r}.")
    return parts


def text_of(norm: str | tuple[str | None, dict] | None) -> str:
    """The text that names a norm, of which `norm_of` makes the norm again. Tuples become lists, as in JSON.

    Raises:
        ValueError: When an option has no text form.

    >>> text_of(None), text_of(("group", {"groups": 8})), text_of(("layer", {"axis": (1, 2)}))
    ('none', 'group:groups=8', 'layer:axis=[1, 2]')
    """
    name, options = norm if isinstance(norm, (tuple, list)) else (norm, {})
    pairs = [f"{key}={literal(key, value)}" for key, value in options.items()]
    return f"{name or 'none'}" + (":" + ",".join(pairs) if pairs else "")


def literal(key: str, value: object) -> str:
    """The Python literal of an option's value."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(literal(key, each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key, name)}: {literal(key, each)}' for name, each in value.items())}}}"
    finite = not isinstance(value, float) or math.isfinite(value)
    if finite and type(value) in (bool, int, float, str, type(None)):
        return repr(value)
    raise ValueError(
        f"The option {key!r} of a norm must be a finite number, a text, True, False, None, or a list or dict of these, "
        f"so that it can be written as text. Received: {key}={value!r}."
    )


def option_of(text: str) -> tuple[str, object]:
    """A name and a value, which is a Python literal or else a string."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip().isidentifier():
        raise ValueError(f"expected key=value, such as groups=8; received {text!r}.")
    try:
        return key.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return key.strip(), value
