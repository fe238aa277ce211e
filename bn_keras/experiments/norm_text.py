"""A norm and its options as text: `"group:groups=8"`, on the command line and as the name of an arm."""

import ast

from bn_keras.models.norms import named_and_options


def norm_of(text: str) -> str | tuple[str, dict] | None:
    """The norm that a text names.

    Raises:
        ValueError: When an option is no `key=value`, or comes twice.

    >>> norm_of("none"), norm_of("batch"), norm_of("group:groups=8")
    (None, 'batch', ('group', {'groups': 8}))
    """
    name, colon, options = text.partition(":")
    name = None if name.strip().lower() == "none" else name.strip()
    if not colon:
        return name
    pairs = [option_of(part) for part in options.split(",")]
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"expected each option once; received {text!r}.")
    return name, dict(pairs)


def norms_of(text: str) -> tuple[str | tuple[str, dict] | None, ...]:
    """The norms of a list; a part without a name is one more option of the norm before it.

    >>> norms_of("none,group:groups=8,epsilon=0.01,layer")
    (None, ('group', {'groups': 8, 'epsilon': 0.01}), 'layer')
    """
    texts = []
    for part in text.split(","):
        if texts and "=" in part and ":" not in part:
            texts[-1] += "," + part
        elif part.strip():
            texts.append(part)
    return tuple(norm_of(each) for each in texts)


def text_of(norm: str | tuple[str | None, dict] | None) -> str:
    """The text that names a norm.

    >>> text_of(None), text_of(("group", {"groups": 8}))
    ('none', 'group:groups=8')
    """
    name, options = named_and_options(norm)
    return f"{name or 'none'}" + (
        ":" + ",".join(f"{key}={value!r}" for key, value in options.items()) if options else ""
    )


def option_of(text: str) -> tuple[str, object]:
    """A name and a value, which is a Python literal or else a string."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip().isidentifier():
        raise ValueError(f"expected key=value, such as groups=8; received {text!r}.")
    try:
        return key.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key.strip(), value
