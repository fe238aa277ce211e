"""The made-up comparison is one that `compare` could have made."""

import numpy as np

from bn_keras.experiments.comparison.compare import read_comparison
from tests.experiments.comparison import made_up


def test_the_made_up_folder_reads_back_as_the_made_up_comparison(tmp_path):
    changes = {"trials": 4, "seeds": 3, "sketch": True}
    made = made_up.comparison(**changes)
    read = read_comparison(made_up.folder(tmp_path, **changes))
    assert (read.recipe, read.data, read.plan.winners) == (made.recipe, made.data, made.plan.winners)
    assert read.costs.arms == made.costs.arms
    assert read.seeds.keys() == made.seeds.keys()
    for key, runs in made.seeds.items():
        for run, stored in zip(runs, read.seeds[key], strict=True):
            np.testing.assert_array_equal(run.accuracy, stored.accuracy)
            assert (run.job, run.diverged_at, run.test_accuracy) == (
                stored.job,
                stored.diverged_at,
                stored.test_accuracy,
            )


def test_made_up_trials_learn_or_diverge_as_their_learner_says():
    pool = made_up.comparison(learners={"none": made_up.Learner(best=0.9, rate=1.0, steps=50.0, limit=2.0)}).plan.pools[
        "none"
    ]
    for run in pool:
        assert (run.diverged_at is not None) == (run.job.trial.learning_rate * run.job.trial.initial_gain > 2.0)
        assert run.diverged_at is None or len(run.steps) < 101 == len(pool[0].steps)
