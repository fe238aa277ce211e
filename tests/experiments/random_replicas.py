"""Run by `test_trainer.py`: two replicas with dropout and augmentation, and a run of theirs that is interrupted."""

import json
import pathlib
import sys

import keras
import numpy as np

from bn_keras.experiments import Trainer, load, make_strategy, train, training_recipe
from bn_keras.lab.watcher import Watcher


class Stop(Watcher):
    """Interrupts a run in its second interval."""

    count = 0

    def item_begins(self, name):
        self.count += 1
        if self.count == 2:
            raise KeyboardInterrupt


def weights(out):
    return keras.saving.load_model(out / "model.keras").get_weights()


def main(folder):
    strategy, data, folder = make_strategy("mirrored", 2), load("digits"), pathlib.Path(folder)
    recipe = training_recipe("mlp_sigmoid", steps=20, evaluate_every=10, augment=("shift", "rotate"), norm="sync")
    trainer = Trainer(recipe, data, strategy)
    trainer.start()
    states = [
        tuple(int(number) for number in value.numpy())
        for state in trainer.random_states()
        for value in strategy.experimental_local_results(state.value)
    ]
    train(recipe, folder / "whole", strategy=strategy, data=data)
    try:
        train(recipe, folder / "parts", strategy=strategy, data=data, watcher=Stop())
    except KeyboardInterrupt:
        train(recipe, folder / "parts", strategy=strategy, data=data, resume=True)
    pairs = zip(weights(folder / "whole"), weights(folder / "parts"), strict=True)
    return {"states": states, "equal": all(np.array_equal(a, b) for a, b in pairs)}


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(*sys.argv[1:])))
