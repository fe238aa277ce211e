"""Training steps of one normalization layer, ours beside its peers, in one process and in turns.

Each figure is the median time of forward + backward inside a `tf.function`; the peers take their
turns in a new random order each round, so that a drift of the machine's speed reaches them all.
The ratio is the peer's time over ours, round by round: more than 1 means that ours is faster.

    python benchmarks/layers.py [--rounds 15] [--shape 32,56,56,64]
"""

import argparse
import importlib.util
import time

import keras
import numpy as np
import tensorflow as tf

from bn_keras import BatchNorm

SHAPES = [(32, 56, 56, 64), (64, 28, 28, 128), (64, 7, 7, 832), (32, 128, 256), (64, 512), (256, 64), (8, 7, 7, 64)]


class FusedOp(keras.layers.Layer):
    """TensorFlow's kernel and nothing around it: no moving statistics."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones")
        self.beta = self.add_weight(shape=shape[-1:], initializer="zeros")

    def call(self, x, training):
        empty = tf.zeros([0])
        folded = x if x.shape.rank == 4 else tf.reshape(x, [-1, 1, 1, x.shape[-1]])
        result = tf.raw_ops.FusedBatchNormV3(
            x=folded, scale=self.gamma, offset=self.beta, mean=empty, variance=empty, epsilon=1e-3, is_training=training
        )
        return tf.reshape(result.y, x.shape)  # free


def peers():
    found = {"bn_keras": BatchNorm, "keras": keras.layers.BatchNormalization, "fused op": FusedOp}
    if importlib.util.find_spec("tf_keras"):
        import tf_keras

        found["tf_keras"] = tf_keras.layers.BatchNormalization
    return found


def training_step(layer, x, dy):
    @tf.function
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        # The output is returned too: what nobody asks for, TensorFlow does not compute.
        return y, tape.gradient(y, [x, *layer.trainable_variables], dy)

    layer.build(x.shape)
    step(x, dy)
    return lambda: step(x, dy)[1][1].numpy()


def measure(shape, rounds):
    """Milliseconds per step: a list over rounds for each peer."""
    random = np.random.default_rng(0)
    x, dy = (tf.constant(random.normal(size=shape), tf.float32) for _ in range(2))
    steps = {name: training_step(make(), x, dy) for name, make in peers().items()}
    calls = max(1, round(2e7 / np.prod(shape) / 10))
    times = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name in random.permutation(list(steps)):
            step = steps[name]
            started = time.perf_counter()
            for _ in range(calls):
                step()
            times[name].append(1e3 * (time.perf_counter() - started) / calls)
    return {name: np.array(each[1:]) for name, each in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds to take the median of (default: 15)")
    parser.add_argument("--shape", help="one shape, such as 32,56,56,64 (default: several)")
    arguments = parser.parse_args()
    shapes = [tuple(map(int, arguments.shape.split(",")))] if arguments.shape else SHAPES
    print(f"{'shape':>18}  {'peer':<9} {'median ms':>9} {'min–max':>15}  {'ratio to bn_keras: median (min–max)'}")
    for shape in shapes:
        times = measure(shape, arguments.rounds)
        for name, each in times.items():
            ratio = each / times["bn_keras"]
            print(
                f"{'×'.join(map(str, shape)):>18}  {name:<9} {np.median(each):9.3f} "
                f"{each.min():7.3f}–{each.max():<7.3f}  {np.median(ratio):.2f} ({ratio.min():.2f}–{ratio.max():.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
