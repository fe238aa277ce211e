"""The profile of the gap over the depth of a model, as a picture."""

import numpy as np

from bn_keras.doctor.gaps import ERRORS
from bn_keras.lab.extras import packages_of

with packages_of("lab"):
    import matplotlib.figure

    from bn_keras.lab.plot import BLUE, INK, VERMILION, tidy


def profile(examination):
    """The gaps of the means and the ratios of the variances, layer by layer, above what batch noise explains."""
    gaps = examination.layers
    if not gaps:
        raise ValueError(f"No batch norm of {examination.model!r} was measured, so there is no profile to draw.")
    figure = matplotlib.figure.Figure(figsize=(max(5, 1.5 + 0.28 * len(gaps)), 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    x = np.arange(len(gaps))
    colors = [VERMILION if gap.exceeds_noise else BLUE for gap in gaps]
    above.bar(x, [gap.mean_gap for gap in gaps], color=colors)
    above.step(x, [ERRORS * gap.mean_noise for gap in gaps], where="mid", color=INK, label="batch noise")
    above.set_ylabel("mean off by (σ)")
    above.legend(frameon=False)
    below.bar(x, [np.log2(gap.variance_ratio) for gap in gaps], color=colors)
    below.axhline(0, color=INK, linewidth=0.8)
    below.set_ylabel("variance, batch / moving (log₂)")
    below.set_xticks(x, [gap.layer for gap in gaps], rotation=90, fontsize=7)
    above.set_title(f"Moving statistics against batches: {examination.model}", loc="left")
    for axes in (above, below):
        tidy(axes, "y")
    return figure
