"""What is measured: groups of cases, the bytes that a case has to move, and the peers that take part."""

import dataclasses
import math

DEFAULT_PEERS = ("bn_keras", "keras", "tf_keras", "fused_op", "torch", "torch channels-last", "jax")
BYTES = {"float32": 4, "mixed_bfloat16": 2}
LAYERS = ("batch", "layer", "rms", "group", "instance")

# Tensors of x's size that are read or written at the least. A batch norm has to read all of x before it can write
# any of y, and all of x and dy before it can write any of dx; the others read a row once, as it fits the cache.
TENSORS_MOVED = {
    ("batch", "training"): 8,
    ("batch", "forward"): 3,
    ("batch", "inference"): 2,
    ("row", "training"): 5,
    ("row", "forward"): 2,
    ("row", "inference"): 2,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One layer, or one network, on one input in one mode.

    Attributes:
        group: The group that it is shown in.
        layer: "batch", "layer", "rms", "group" (of 32 groups) or "instance"; in the group `models` the name of a
            network of keras.applications.
        shape: Of the input, batch first.
        dtype: Keras' dtype policy: "float32" or "mixed_bfloat16". The input has its compute dtype.
        axis: Of the channels.
        mode: "training": forward and backward; "gradients": the same, but of the output its sum alone is returned;
            "forward": as in training, without the gradient; "inference"; in the group `overheads` what happens once,
            see `bn_keras.bench.overheads`.
        how: "function": a `tf.function`; "xla": one with `jit_compile=True`; "eager": neither.
        replicas: Of a `tf.distribute` strategy, each with an input of this shape; 0 for no strategy.
    """

    group: str
    layer: str
    shape: tuple
    dtype: str = "float32"
    axis: int = -1
    mode: str = "training"
    how: str = "function"
    replicas: int = 0

    @property
    def tensor_bytes(self):
        """The size of x."""
        return math.prod(self.shape) * BYTES[self.dtype]

    @property
    def bytes_moved(self):
        """What one call has to read and write at the least; `None` for a network."""
        if self.layer not in LAYERS or self.replicas or self.group in {"overheads", "memory"}:
            return None
        kind = "batch" if self.layer == "batch" else "row"
        return TENSORS_MOVED[kind, self.mode] * self.tensor_bytes

    def floor(self, bandwidth):
        """Seconds that moving those bytes takes at a bandwidth in bytes per second; `None` for a network."""
        return None if self.bytes_moved is None else self.bytes_moved / bandwidth

    def to_dict(self):
        return dataclasses.asdict(self) | {"shape": list(self.shape)}


def case_of(fields):
    """The case that `to_dict` described."""
    names = {field.name for field in dataclasses.fields(Case)}
    return Case(**{name: value for name, value in fields.items() if name in names} | {"shape": tuple(fields["shape"])})


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases that are shown in one table and picture. Ratios are to the first of the peers."""

    title: str
    cases: tuple
    peers: tuple = DEFAULT_PEERS
    kind: str = "time"


LARGE = ((32, 56, 56, 64), (64, 28, 28, 128), (64, 7, 7, 832), (32, 128, 256))
SMALL = ((64, 512), (256, 64), (8, 7, 7, 64))
ROWS = ((32, 128, 768), (8192, 256), (64, 64, 512))
IMAGES = LARGE[:2]
ONCE = ("import", "first step", "first step of a second layer", "first step of 50 layers")
NETWORKS = ("ResNet50", "InceptionV3", "MobileNetV2")


def made(group, layers, shapes, modes=("training",), **fields):
    return tuple(
        Case(group, layer, shape, mode=mode, **fields) for layer in layers for mode in modes for shape in shapes
    )


GROUPS = {
    "batch-float32": Group(
        "Batch norm, training step, float32",
        (
            *made("batch-float32", ["batch"], LARGE),
            *made("batch-float32", ["batch"], [(32, 64, 56, 56)], axis=1),
            *made("batch-float32", ["batch"], SMALL),
        ),
    ),
    "batch-bfloat16": Group(
        "Batch norm, training step, mixed_bfloat16",
        made("batch-bfloat16", ["batch"], LARGE, dtype="mixed_bfloat16"),
    ),
    "batch-xla": Group("Batch norm, training step under XLA", made("batch-xla", ["batch"], LARGE, how="xla")),
    "batch-eager": Group(
        "Batch norm, training step called eagerly",
        made("batch-eager", ["batch"], [LARGE[0], SMALL[0]], how="eager"),
    ),
    "batch-forward": Group(
        "Batch norm, training, forward alone, float32", made("batch-forward", ["batch"], LARGE, ["forward"])
    ),
    "batch-inference": Group("Batch norm, inference", made("batch-inference", ["batch"], LARGE, ["inference"])),
    "layer": Group("Layer norm", made("layer", ["layer"], ROWS, ["training", "inference"])),
    "rms": Group("RMS norm, training step", made("rms", ["rms"], ROWS)),
    "group-instance": Group(
        "Group norm of 32 groups and instance norm, training step",
        made("group-instance", ["group", "instance"], IMAGES),
    ),
    "models": Group(
        "Networks of keras.applications",
        made("models", NETWORKS, [(16, 128, 128, 3)], ["training", "inference"]),
        ("bn_keras network", "keras network", "bn_keras folded", "without norm"),
    ),
    "sync": Group(
        "Batch norm on several replicas, training step",
        tuple(case for replicas in (2, 4) for case in made("sync", ["batch"], LARGE[:1], replicas=replicas)),
        ("bn_keras plain", "bn_keras synchronized", "keras plain", "keras synchronized"),
    ),
    "memory": Group(
        "Memory of a training step, at its peak, beyond x and dy, if the output is used and given up",
        made("memory", ["batch"], [(64, 112, 112, 64)], ["gradients"])
        + made("memory", ["layer"], [(65536, 784)], ["gradients"]),
        kind="memory",
    ),
    "overheads": Group(
        "What happens once: import, first training step, the steps of many layers",
        made("overheads", ["batch"], [SMALL[0]], ONCE),
        ("bn_keras", "keras"),
        kind="overheads",
    ),
}


def tiny(case):
    """The same case on an input small enough for a test."""
    if case.axis == 1:
        return dataclasses.replace(case, shape=(2, 32, *(4 for _ in case.shape[2:])))
    channels = min(case.shape[-1], 32) if case.layer in LAYERS else case.shape[-1]
    size = 4 if case.layer in LAYERS else 75
    return dataclasses.replace(case, shape=(2, *(min(each, size) for each in case.shape[1:-1]), channels))


def cases_of(groups, quick=False):
    """The cases of groups by name, each once."""
    found = [case for name in groups for case in GROUPS[name].cases]
    return list(dict.fromkeys(map(tiny, found))) if quick else found
