"""Every public layer with its arguments: what all tests of this folder run through.

A new layer or option is one line in `CASES`.
"""

import collections.abc
import dataclasses

import keras
import pytest
import tensorflow as tf

from bn_keras import (
    Affine,
    BatchNorm,
    ConditionalNorm,
    DecorrelatedBatchNorm,
    DomainBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SyncBatchNorm,
    WeightNorm,
    WeightStandardization,
)
from tests.exhaustive import marked

LARGE = (256, 4, 4, 16)  # 65,536 elements: from here on batch norm takes TensorFlow's kernel by itself


@keras.saving.register_keras_serializable(package="tests")
class Conditioned(ConditionalNorm):
    """A conditional norm with one input: features that all examples have, or a class by the place in the batch.

    Classes are for tests that take the whole batch at once: on several replicas places are others.
    """

    def build(self, input_shape):
        super().build([input_shape, (None,) if self.classes else (None, 3)])

    def call(self, inputs, training=None, mask=None):
        place = tf.range(tf.shape(inputs)[0])
        condition = place % self.classes if self.classes else tf.constant([[0.5, -0.3, 1.0]])
        return super().call([inputs, condition], training, mask)

    def compute_output_shape(self, input_shape):
        return super().compute_output_shape([input_shape, (None, 3)])


@dataclasses.dataclass(frozen=True, eq=False)  # each is equal to itself alone, so that it can be a key
class Case:
    """A layer with its arguments, and an input that it takes.

    `statistics`: training has moments of the batch, which inference has not; `mask`: they heed a mask.
    `variant`: differs from another case in shapes, kernels and weights alone: left out of what takes long.
    `wrapped`: makes the layer that a wrapper takes, of a dtype.
    """

    name: str
    layer: type
    arguments: dict
    shape: tuple = (6, 5, 4)
    statistics: bool = False
    mask: bool = False
    variant: bool = False
    wrapped: collections.abc.Callable | None = None

    def make(self, **changes):
        inner = {"layer": self.wrapped(changes.get("dtype"))} if self.wrapped else {}
        return self.layer(**inner | self.arguments | changes)

    def exact(self, **changes):
        """The same in float64, which TensorFlow's kernel does not take."""
        kernel = {"fused": None} if "fused" in self.arguments else {}
        return self.make(dtype="float64", **kernel, **changes)

    @property
    def needs_the_kernel(self):
        return self.arguments.get("fused") is True

    @property
    def synchronized(self):
        return getattr(self.make(), "synchronized", False)

    @property
    def axes(self):
        axis = self.arguments.get("axis", -1)
        return axis if isinstance(axis, list) else [axis]

    def __str__(self):
        return self.name


def over_the_batch(name, layer, shape=(6, 5, 4), mask=True, variant=False, **arguments):
    return Case(name, layer, arguments, shape, statistics=True, mask=mask, variant=variant)


def per_example(name, layer, shape=(6, 5, 4), variant=False, **arguments):
    return Case(name, layer, arguments, shape, variant=variant)


def around(name, layer, wrapped, variant=False, **arguments):
    """A wrapper of a layer that keeps the shape (6, 5, 4); `wrapped` has a seed, so that clones start as copies do."""
    return Case(name, layer, arguments, variant=variant, wrapped=wrapped)


def dense(dtype):
    return keras.layers.Dense(4, kernel_initializer=keras.initializers.HeNormal(seed=1), dtype=dtype, name="dense")


def convolution(dtype):
    return keras.layers.Conv1D(
        4, 3, padding="same", kernel_initializer=keras.initializers.HeNormal(seed=1), dtype=dtype, name="convolution"
    )


@keras.saving.register_keras_serializable("tests")
class OneDomain(DomainBatchNorm):
    """Every batch is of one domain."""

    def domain(self, inputs):
        return 1

    def compute_output_spec(self, inputs, **kwargs):
        return super().compute_output_spec(inputs, domain=0)

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, domain=self.domain(inputs), training=training, mask=mask)


@keras.saving.register_keras_serializable("tests")
class MixedDomains(OneDomain):
    """The examples of a batch take turns."""

    def domain(self, inputs):
        return tf.range(tf.shape(inputs)[0]) % self.domains


CASES = [
    over_the_batch("batch", BatchNorm),
    over_the_batch("batch_of_vectors", BatchNorm, variant=True, shape=(6, 4)),
    over_the_batch("batch_channels_first", BatchNorm, axis=1),
    over_the_batch("batch_two_axes", BatchNorm, shape=(6, 3, 2, 4), axis=[1, 3]),
    over_the_batch("batch_average_of_all", BatchNorm, momentum=None),
    over_the_batch("batch_bias_corrected", BatchNorm, bias_correction=True, momentum=0.9),
    over_the_batch("batch_renorm", BatchNorm, renorm=True),
    over_the_batch(
        "batch_renorm_clipped", BatchNorm, variant=True, renorm=True, renorm_clipping={"rmin": 0.5, "dmax": 0.5}
    ),
    over_the_batch("batch_virtual", BatchNorm, virtual_batch_size=4),
    over_the_batch("batch_accumulated", BatchNorm, accumulation_steps=5),
    over_the_batch("batch_biased", BatchNorm, unbiased=False),
    over_the_batch("batch_without_offset", BatchNorm, variant=True, center=False),
    over_the_batch("batch_without_scale", BatchNorm, variant=True, scale=False),
    over_the_batch("batch_large", BatchNorm, variant=True, shape=LARGE),
    over_the_batch("batch_fused", BatchNorm, shape=LARGE, mask=False, fused=True),
    over_the_batch("batch_not_fused", BatchNorm, variant=True, shape=LARGE, fused=False),
    over_the_batch("batch_synchronized", BatchNorm, variant=True, synchronized=True),
    over_the_batch("sync", SyncBatchNorm),
    over_the_batch("sync_groups", SyncBatchNorm, variant=True, group_size=2),
    over_the_batch("sync_channels_first", SyncBatchNorm, variant=True, shape=(6, 4, 3, 2), axis=1),
    over_the_batch("sync_average_of_all", SyncBatchNorm, momentum=None),
    over_the_batch("sync_accumulated", SyncBatchNorm, variant=True, accumulation_steps=5),
    over_the_batch("sync_renorm", SyncBatchNorm, renorm=True),
    over_the_batch("decorrelated", DecorrelatedBatchNorm, iterations=3),
    over_the_batch("decorrelated_groups", DecorrelatedBatchNorm, variant=True, shape=(6, 4, 3, 2), axis=1, groups=2),
    over_the_batch("domain", OneDomain, domains=3, shared_affine=False),
    over_the_batch("domain_synchronized", OneDomain, variant=True, synchronized=True),
    over_the_batch("domains", MixedDomains),
    over_the_batch("domains_channels_first", MixedDomains, variant=True, shape=(6, 4, 3, 2), axis=1, momentum=None),
    over_the_batch(
        "domains_apart", MixedDomains, variant=True, shape=(6, 4), shared_affine=False, bias_correction=True
    ),
    over_the_batch("domains_synchronized", MixedDomains, synchronized=True, shared_affine=False),
    per_example("layer", LayerNorm),
    per_example("layer_two_axes", LayerNorm, variant=True, axis=[1, 2]),
    per_example("layer_without_offset", LayerNorm, variant=True, center=False),
    per_example("layer_without_scale", LayerNorm, variant=True, scale=False),
    per_example("group", GroupNorm, groups=2),
    per_example("group_channels_first", GroupNorm, variant=True, shape=(6, 4, 3, 2), axis=1, groups=2, center=False),
    per_example("instance", InstanceNorm),
    per_example("instance_channels_first", InstanceNorm, variant=True, axis=1, scale=False),
    over_the_batch("conditional_batch", Conditioned),
    over_the_batch(
        "conditional_sync_classes", Conditioned, variant=True, shape=(6, 4, 3, 2), norm="sync", classes=3, axis=1
    ),
    per_example("conditional_instance", Conditioned, variant=True, norm="instance", scale=False),
    per_example("rms", RMSNorm),
    per_example("affine", Affine, activation="tanh"),
    per_example("affine_two_axes", Affine, variant=True, axis=[1, 2]),
    per_example("rms_two_axes", RMSNorm, variant=True, axis=[1, 2]),
    around("weight_norm", WeightNorm, dense),
    around("weight_norm_convolution", WeightNorm, convolution, variant=True),
    around("weight_standardization", WeightStandardization, convolution, scaled=True, use_gain=True),
    around("weight_standardization_dense", WeightStandardization, dense, variant=True),
]
DISTINCT = [case for case in CASES if not case.variant]
# The variants that reach lines of a layer that no other case reaches. `--exhaustive` runs the other variants too.
MAIN_VARIANTS = {
    "batch_renorm_clipped", "batch_without_scale", "batch_large", "decorrelated_groups", "layer_two_axes",
    "layer_without_offset", "group_channels_first",
}  # fmt: skip
MAIN = [case for case in CASES if not case.variant or case.name in MAIN_VARIANTS]
FIRST = list({case.layer: case for case in reversed(CASES)}.values())  # the first case of each layer
WITH_STATISTICS = [case for case in CASES if case.statistics]
WITH_MASK = [case for case in CASES if case.mask]


def every(cases):
    """Runs a test with each case; those that are not in `MAIN` are marked `exhaustive`."""
    return pytest.mark.parametrize("case", marked(cases, MAIN.__contains__), ids=str)
