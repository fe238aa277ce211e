"""The figures of a comparison, by name."""

import os
import pathlib
from collections.abc import Sequence

from bn_keras.experiments.comparison.analysis import Comparison
from bn_keras.experiments.comparison.figure_budgets import speedup_over_budget
from bn_keras.experiments.comparison.figure_runs import accuracy_over_rate, learning_curves
from bn_keras.experiments.comparison.figure_targets import speedup_over_target
from bn_keras.lab.plot import save

FIGURES = {
    "learning_curves": learning_curves,
    "speedup_over_target": speedup_over_target,
    "speedup_over_budget": speedup_over_budget,
    "accuracy_over_rate": accuracy_over_rate,
}

CAPTIONS = {
    "learning_curves": "The best validation accuracy so far: median, band over the seeds, and each crossing.",
    "speedup_over_target": "Speed-up over the target, from easy to hard.",
    "speedup_over_budget": "What each arm gets out of fewer trials: subsets of the stored trials, drawn 1,000 times.",
    "accuracy_over_rate": "The best accuracy of every trial over its learning rate.",
}


def draw(
    comparison: Comparison, folder: str | os.PathLike, suffixes: Sequence[str] = (".svg", ".png")
) -> list[pathlib.Path]:
    """Draws all figures of a comparison.

    Args:
        comparison: A `Comparison`.
        folder: Str or path of the folder for the pictures; `draw` creates it.
        suffixes: Tuple of the formats, each `".svg"` or `".png"`. Defaults to `(".svg", ".png")`.

    Returns:
        List of the paths of the pictures, such as `folder/learning_curves.svg`. The same comparison gives the same
        bytes.

    Raises:
        ValueError: If a format is unknown.

    >>> import tempfile
    >>> from bn_keras.experiments import read_comparison
    >>> comparison = read_comparison("models/mlp_sigmoid/mnist")
    >>> [path.name for path in draw(comparison, tempfile.mkdtemp(), (".svg",))]
    ['learning_curves.svg', 'speedup_over_target.svg', 'speedup_over_budget.svg', 'accuracy_over_rate.svg']
    """
    if isinstance(suffixes, str) or not set(suffixes) <= {".svg", ".png"}:
        raise ValueError(f'`suffixes` must be a tuple of ".svg" and ".png". Received: suffixes={suffixes!r}')
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure_of in FIGURES.items():
        figure = figure_of(comparison)
        for suffix in suffixes:
            paths.append(folder / f"{name}{suffix}")
            save(figure, paths[-1], digest=f"recipe {comparison.recipe.hash}")
    return paths
