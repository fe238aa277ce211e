"""Pictures come out the same every time, and say what they were drawn from."""

import matplotlib.figure
import pytest

from bn_keras.lab.plot import save, svg, tidy


def figure():
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [1, 2])
    tidy(axes)
    return figure


def test_an_svg_is_repeatable_and_holds_its_digest():
    assert svg(figure(), "drawn from nothing") == svg(figure(), "drawn from nothing")
    assert "drawn from nothing" in svg(figure(), "drawn from nothing")
    assert "<dc:date>" not in svg(figure())


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_suffix_is_the_format(tmp_path, suffix, start):
    save(figure(), tmp_path / f"picture{suffix}")
    assert (tmp_path / f"picture{suffix}").read_bytes().startswith(start)


def test_tidy_axes_have_no_frame_at_the_top_and_right():
    axes = figure().axes[0]
    assert [side for side, spine in axes.spines.items() if spine.get_visible()] == ["left", "bottom"]
