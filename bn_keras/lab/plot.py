"""The style of all pictures: colours, axes, and files that come out the same every time."""

import io
import pathlib

from bn_keras.lab.extras import packages_of

with packages_of("lab"):
    import matplotlib
    import matplotlib.axes
    import matplotlib.figure

# Okabe and Ito's colours stay apart with every kind of colour blindness.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
GREEN, PURPLE, SKY, BLACK = "#009E73", "#CC79A7", "#56B4E9", "#000000"
INK = "#333333"


def tidy(axes: matplotlib.axes.Axes, grid: str = "both") -> None:
    """Removes the frame at the top and the right, and draws a faint grid along `grid`: "x", "y" or "both"."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.25, linewidth=0.6)


def save(figure: matplotlib.figure.Figure, path: pathlib.Path, digest: str = "") -> None:
    """Writes a picture: an SVG or a PNG, by the path's suffix. The digest goes into the description of an SVG."""
    if path.suffix == ".svg":
        path.write_text(svg(figure, digest), encoding="utf-8")
    else:
        figure.savefig(path, dpi=120)


def svg(figure: matplotlib.figure.Figure, digest: str = "") -> str:
    """A picture as the text of an SVG; the digest goes into its description."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "bn_keras", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", dpi=120, metadata={"Date": None, "Description": digest})
    return text.getvalue()


def png(figure: matplotlib.figure.Figure) -> bytes:
    """A picture as the bytes of a PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()
