"""Planted curves in the place of runs, for the tests of the rules."""

from bn_keras.experiments.claims.claim import Found, key_of, plain

EVALUATIONS = 10


def planted_curve(accuracy=0.9, *, test=None, reached_at=0.1, diverged=False, length=100, **others):
    """A curve that is at chance until a share of its length, and at an accuracy afterwards."""
    if diverged:
        return {"steps": [0], "accuracy": [0.1], "loss": [None], "diverged_at": 10, "train_accuracy": None,
                "test_accuracy": None} | {name: [0.0] for name in others}  # fmt: skip
    steps = [length * place // EVALUATIONS for place in range(EVALUATIONS + 1)]
    accuracies = [accuracy if step >= reached_at * length and step else 0.1 for step in steps]
    last = accuracy if test is None else test
    return {"steps": steps, "accuracy": accuracies, "loss": [1.0] * len(steps), "diverged_at": None,
            "train_accuracy": last, "test_accuracy": last} | others  # fmt: skip


def planted_measurements(claim, form, values_of):
    """All measurements of a claim, stage by stage, with the values that a function gives for a cell."""
    found = Found()
    while missing := claim.missing(form, found):
        found.pairs.update({key_of(cell): (cell, plain(values_of(cell))) for cell in missing})
    return found
