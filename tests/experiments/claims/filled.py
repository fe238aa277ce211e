"""Claims whose cells are filled with planted values, stage after stage."""

from bn_keras.experiments.claims.claim import Found, plain

STAGES = 4


def filled(claim, form, values_of):
    """The measurements of a claim, each one what `values_of` gives for its cell."""
    pairs = []
    for _ in range(STAGES):
        missing = claim.missing(form, Found(pairs))
        if not missing:
            return Found(pairs)
        pairs += [(cell, plain(values_of(cell))) for cell in missing]
    raise AssertionError(f"{claim.id} asks for more cells after {STAGES} stages")


def verdict(claim, form, values_of):
    """The finding on planted values; the figure has to draw, too."""
    found = filled(claim, form, values_of)
    figure = claim.draw(form, found)
    figure.canvas.draw()
    return claim.judge(form, found)


def run(accuracy, **values):
    """The values of a run that ends with a validation and test accuracy; `None` for one that diverged."""
    if accuracy is None:
        empty = {"steps": [0], "accuracy": [0.1], "loss": [None]}
        return empty | {"diverged_at": 7, "train_accuracy": None, "test_accuracy": None} | values
    curve = {"steps": [0, 10, 20], "accuracy": [0.1, accuracy / 2, accuracy], "loss": [None, 1.0, 0.5]}
    return curve | {"diverged_at": None, "train_accuracy": 1.0, "test_accuracy": accuracy} | values


def tuned(cell, best):
    """The accuracy of a run of tuning that is the better the nearer its rate is to the best one."""
    return 0.5 if cell["learning_rate"] == best else 0.4
