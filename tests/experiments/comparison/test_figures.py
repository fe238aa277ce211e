"""The figures of a comparison: what they say, and that they come out the same every time."""

import re
import statistics
import warnings

import pytest

from bn_keras.experiments.comparison import figure_targets
from bn_keras.experiments.comparison.figure_budgets import worth
from bn_keras.experiments.comparison.figure_style import STYLES, styles_of
from bn_keras.experiments.comparison.figure_targets import target_levels
from bn_keras.experiments.comparison.figures import FIGURES, draw
from bn_keras.lab.plot import svg
from bn_keras.models.norms import NAMES
from tests.experiments.comparison.made_up import Learner, comparison

NEVER_LEARNS = Learner(best=0.1, rate=1.0, steps=260.0, limit=1e-3)
LEARNS_LITTLE = Learner(best=0.6, rate=3.0, steps=90.0)
FAST = Learner(best=0.9, rate=1.0, steps=50.0)
SMALL = {"trials": 4, "seeds": 2, "steps": 400}


def words(name, **changes):
    """The words in a figure, a line each. A warning is an error, as in all tests here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = svg(FIGURES[name](comparison(**changes)))
    return re.findall(r"<text[^>]*>([^<]*)</text>", text)


@pytest.fixture(autouse=True)
def few_levels(monkeypatch):
    """Eight targets instead of all, since each costs a bootstrap."""
    monkeypatch.setattr(figure_targets, "LEVELS", 8)


@pytest.mark.slow
def test_draw_writes_the_same_bytes_again_and_others_for_another_comparison(tmp_path):
    drawn = comparison(**SMALL)
    first = draw(drawn, tmp_path / "new" / "folder")
    assert [path.relative_to(tmp_path / "new" / "folder").name for path in first] == [
        f"{name}{suffix}" for name in FIGURES for suffix in (".svg", ".png")
    ]
    again = draw(comparison(**SMALL), tmp_path / "again", [".svg"])
    others = draw(comparison(learners={"batch": FAST}, **SMALL), tmp_path / "others", [".svg"])
    for path, same, other in zip(first[::2], again, others, strict=True):
        assert path.read_bytes() == same.read_bytes() != other.read_bytes()
        assert f"recipe {drawn.recipe.hash}" in path.read_text(encoding="utf-8")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in first[1::2])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_network_data_and_arms(name):
    found = words(name, norms=(None, "batch", ("group", {"groups": 4})), **SMALL)
    assert {"none", "batch", "group:groups=4"} <= set(found)
    assert any("mlp_sigmoid on digits" in line for line in found)
    assert not any("Sketch" in line for line in found)


@pytest.mark.parametrize("name", FIGURES)
def test_a_sketch_is_called_a_sketch(name):
    assert any("Sketch, mlp_sigmoid on digits" in line for line in words(name, sketch=True, **SMALL))


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 1, "trials": 1, "steps": 400},
        {"learners": {"none": NEVER_LEARNS, "batch": NEVER_LEARNS}, **SMALL},
        {"learners": {"none": NEVER_LEARNS}, **SMALL},
        {"learners": {"none": Learner(best=1.2, rate=1.0, steps=20.0), "batch": FAST}, **SMALL},
        {"norms": (None, "batch", "layer", "group", "rms", ("group", {"groups": 4})), **SMALL},
    ],
    ids=["one seed", "nobody learns", "the baseline does not learn", "every image is right", "six arms"],
)
def test_edge_cases_are_drawn_without_warnings(name, changes):
    assert "batch" in words(name, **changes)


def test_learning_curves_give_both_targets_and_the_speedups():
    drawn = comparison()
    found = words("learning_curves")
    assert f"Fastest winners, target {drawn.target:.2%}" in found
    assert f"Most accurate winners, target {drawn.hard_target:.2%}" in found
    assert f"speed-up: batch\N{NO-BREAK SPACE}{drawn.speedup('batch').ratio:.2f}×" in found
    assert "speed-up: batch\N{NO-BREAK SPACE}∞" in found


def test_learning_curves_count_the_seeds_that_never_reach_the_target():
    found = words("learning_curves", learners={"batch": LEARNS_LITTLE}, **SMALL)
    assert "never" in found
    assert found.count("2") == 2  # both seeds of batch, in both panels
    assert "speed-up: batch\N{NO-BREAK SPACE}never" in found


def test_learning_curves_have_no_strip_where_every_seed_gets_there():
    found = words("learning_curves", **SMALL | {"seeds": 1})
    assert found.count("never") == 1  # at the harder target


def test_a_target_that_guessing_reaches_gives_no_speedup():
    found = words("learning_curves", learners={"none": NEVER_LEARNS, "batch": FAST}, **SMALL)
    assert any("speed-up: none, as guessing gets there" in line for line in found)


@pytest.mark.slow
def test_targets_that_only_one_side_reaches_are_in_strips():
    assert {"only this arm", "gets there", "target", "hard target"} <= set(words("speedup_over_target", **SMALL))
    assert "only none" not in words("speedup_over_target", **SMALL)
    slower = words("speedup_over_target", learners={"batch": LEARNS_LITTLE}, **SMALL)
    assert "only none" in slower
    assert "only this arm" not in slower
    assert "hard target" not in slower  # the two targets are one


def test_targets_go_from_easy_to_the_most_accurate_run():
    drawn = comparison(**SMALL)
    levels = target_levels(drawn)
    assert levels == sorted(levels)
    assert drawn.chance < levels[0] < drawn.target < drawn.hard_target <= levels[-1] < 1
    assert {drawn.target, drawn.hard_target} <= set(levels)


def test_targets_start_above_what_the_baseline_reaches_at_its_first_evaluation():
    quick = comparison(learners={"none": Learner(best=0.95, rate=1.0, steps=90.0)}, evaluate_every=100, **SMALL)
    first = statistics.median(run.accuracy[1] for run in quick.seeds["none", "accurate"])
    assert (quick.chance + quick.target) / 2 < first < target_levels(quick)[0] < quick.target


@pytest.mark.slow
def test_budgets_say_what_tuning_is_worth():
    drawn = comparison()
    assert worth(drawn.budgets()) == "batch with 2 trials is as accurate as none with 16"
    assert any(worth(drawn.budgets()) in line for line in words("speedup_over_budget"))
    little = comparison(learners={"batch": LEARNS_LITTLE})
    assert worth(little.budgets()) == "batch with 16 trials is not as accurate as none with 16"
    several = comparison(norms=(None, "batch", "layer"), learners={"layer": LEARNS_LITTLE})
    said = worth(several.budgets()).replace("\N{NO-BREAK SPACE}", " ")
    assert said == "as accurate as none with 16 trials: batch with 2, not layer"


@pytest.mark.slow
def test_budgets_that_never_reach_the_target_are_in_a_strip():
    assert "never" in words("speedup_over_budget", learners={"batch": LEARNS_LITTLE}, **SMALL)
    assert "never" not in words("speedup_over_budget", trials=1, seeds=1)


def test_trials_that_diverged_are_in_a_strip():
    assert "diverged" in words("accuracy_over_rate", **SMALL)
    steady = {arm: Learner(best=0.9, rate=1.0, steps=50.0) for arm in ("none", "batch")}
    assert "diverged" not in words("accuracy_over_rate", learners=steady, **SMALL)


def test_every_norm_has_a_style_of_its_own():
    styles = styles_of(["none", *NAMES, "group:groups=4", "renorm:momentum=0.5", "group:groups=8"])
    assert set(STYLES) == {"none", *NAMES}
    assert len({style.marker for style in styles.values()}) == len(styles)
    assert len({str(style.line) for style in styles.values()}) == len(styles)
    assert {styles[arm].color for arm in ("group:groups=4", "group:groups=8")} == {styles["group"].color}


@pytest.mark.parametrize("name", FIGURES)
def test_words_of_long_arms_are_not_cut_off(name):
    clipping = {"renorm_clipping": {"rmax": 3.0, "rmin": 0.3, "dmax": 5.0}}
    arms = (None, ("renorm", clipping), ("decorrelated", {"groups": 4}), "instance", "batch", "layer")
    figure = FIGURES[name](comparison(norms=arms, **SMALL))
    figure.draw_without_rendering()
    for artist in (figure.legends[0], *figure.texts, *(axes.title for axes in figure.axes)):
        box = artist.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.width
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.height


def test_an_arm_keeps_its_style_beside_other_arms():
    assert styles_of(["none", "batch"])["batch"] == styles_of(["none", "layer", "batch"])["batch"]


@pytest.mark.parametrize("suffixes", [".svg", ("svg",), [".pdf"]])
def test_an_unknown_format_is_refused(tmp_path, suffixes):
    with pytest.raises(ValueError, match=r"`suffixes` must be a tuple of \"\.svg\" and \"\.png\"\. Received"):
        draw(comparison(**SMALL), tmp_path / "pictures", suffixes)
    assert not (tmp_path / "pictures").exists()
