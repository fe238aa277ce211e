"""The inputs of exported models: names that do not depend on the process, arguments of `call`, dtypes, constants."""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from bn_keras import BatchNorm
from bn_keras.choices.formats import FORMATS
from bn_keras.export import ExportError, export
from bn_keras.export.endpoint import Endpoint
from bn_keras.export.formats import write
from bn_keras.export.signature import signature_of

pytestmark = pytest.mark.usefixtures("forked_exports")
MISSING = [name for name in ("tf2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
ONNX_NEEDED = pytest.mark.skipif(bool(MISSING), reason="ONNX needs the extra: pip install 'bn_keras[export]'")
ONNX = pytest.param("onnx", marks=ONNX_NEEDED)
EVERY_FORMAT = pytest.mark.parametrize("format", ["saved_model", "tflite", ONNX])
FLOATS = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
IDS = np.array([[1, 2, 3, 0], [4, 1, 0, 0]], np.int32)
PAIR = {"ids": IDS, "weights": np.ones((2, 4), np.float32)}


def place(folder, format="saved_model"):
    return folder / ("exported" + FORMATS[format].suffix)


def unchecked(model, folder, **arguments):
    return export(model, folder / "exported", check=False, report=None, **arguments)


def build(model, *arguments, **named):
    model(*arguments, **named)
    return model


@keras.saving.register_keras_serializable("tests")
class Named(keras.Model):
    """`call(self, x)` of a tensor, a dict or a list, with a batch norm of each."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = keras.layers.Dense(2)
        self.norm = BatchNorm()

    def call(self, x):
        return self.norm(keras.ops.add(*map(self.dense, tf.nest.flatten(x))) if tf.nest.is_nested(x) else self.dense(x))


def sequential(**settings):
    return keras.Sequential([keras.Input((3,), **settings), keras.layers.Dense(2), BatchNorm()])


def functional(inputs):
    return keras.Model(inputs, BatchNorm()(keras.ops.add(*map(keras.layers.Dense(2), tf.nest.flatten(inputs)))))


def deferred():
    return build(keras.Sequential([keras.layers.Dense(2), BatchNorm()]), FLOATS)


MODELS = {
    "sequential": (sequential, ("inputs",)),
    "sequential with a name": (lambda: sequential(name="pixels"), ("pixels",)),
    "sequential that a call builds": (deferred, ("inputs",)),
    "functional": (lambda: functional([keras.Input((3,)), keras.Input((3,), name="b")]), ("inputs_0", "b")),
    "functional with a dict": (lambda: functional({"b": keras.Input((3,)), "a": keras.Input((3,))}), ("a", "b")),
    "subclassed": (lambda: build(Named(), FLOATS), ("inputs",)),
    "subclassed with a dict": (lambda: build(Named(), {"b": FLOATS, "a": FLOATS}), ("a", "b")),
    "subclassed with a list": (lambda: build(Named(), [FLOATS, FLOATS]), ("inputs_0", "inputs_1")),
}


@pytest.mark.sample(2)
@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_the_names_do_not_depend_on_the_process(kind, tmp_path):
    make, expected = MODELS[kind]
    for count in range(3):
        for _ in range(count):
            keras.Model(each := keras.Input((1,)), each)  # moves Keras' counters on
        model = make()
        assert unchecked(model, tmp_path / f"{count}").inputs == expected
        assert unchecked(model, tmp_path / f"{count}, folded", fold=True).inputs == expected
        model.save(tmp_path / "model.keras")
        assert unchecked(tmp_path / "model.keras", tmp_path / f"{count}, from a file").inputs == expected


def test_each_name_is_used_once(tmp_path):
    names = ["a b", "a_b", "inputs_3", None]
    model = keras.Model(inputs := [keras.Input((1,), name=name) for name in names], keras.ops.add(*inputs[2:]))
    found = unchecked(model, tmp_path).inputs
    assert len(set(found)) == 4
    assert found[0] == "a_b"


class Tokens(keras.Model):
    """Ids to vectors; what it does with the ids is the argument."""

    def __init__(self, looked_up):
        super().__init__()
        self.looked_up = looked_up
        self.embedding = keras.layers.Embedding(5, 3, mask_zero=True)
        self.pool = keras.layers.GlobalAveragePooling1D()
        self.table = self.add_weight(shape=(5, 3))

    def call(self, ids):
        return self.pool(self.looked_up(self, ids))


LOOK_UPS = {
    "embedding": lambda model, ids: model.embedding(ids),
    "embedding of a part": lambda model, ids: model.embedding(ids[:, ::-1]),
    "gather, which takes no floats": lambda model, ids: tf.gather(model.table, ids),
}


@pytest.mark.parametrize("kind", LOOK_UPS)
def test_a_subclassed_token_model_has_integer_inputs(kind, tmp_path):
    model = build(Tokens(LOOK_UPS[kind]), IDS)
    unchecked(model, tmp_path)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(served.serve(tf.constant(IDS)), model(IDS), rtol=0, atol=1e-6)


@pytest.mark.slow
@EVERY_FORMAT
def test_a_subclassed_token_model_in_every_format(format, tmp_path):
    model = build(Tokens(LOOK_UPS["embedding"]), IDS)
    made = export(model, place(tmp_path, format), format=format, examples=IDS, report=None)
    assert made.largest_difference < 1e-5


def test_ids_keep_their_precision_in_half_precision(tmp_path):
    """Keras casts floats to the compute dtype; above 2048, float16 holds every other integer alone."""
    model = Named(dtype="mixed_float16")
    model.embedding = keras.layers.Embedding(4001, 2, dtype="float32", embeddings_initializer="uniform")
    model.call = lambda x: model.embedding(x)
    assert signature_of(build(model, IDS)).specs[0].dtype == tf.int32


def test_ids_and_numbers_in_one_dict():
    class Both(Named):
        def build(self, shapes):
            self.embedding = keras.layers.Embedding(5, 2)

        def call(self, x):
            return self.dense(x["numbers"]) + keras.ops.mean(self.embedding(x["ids"]), axis=1)

    specs = signature_of(build(Both(), {"ids": IDS, "numbers": FLOATS})).arguments["x"]
    assert {name: spec.dtype for name, spec in specs.items()} == {"ids": tf.int32, "numbers": tf.float32}


def test_numbers_stay_floats():
    """Where a cast to integers comes after arithmetic, or beside it."""
    for change in (lambda x: keras.ops.cast(10 * x, "int32"), lambda x: x + keras.ops.floor(x)):
        model = build(Tokens(lambda _, x, change=change: keras.ops.cast(change(x), "float32")[..., None]), FLOATS)
        assert signature_of(model).specs[0].dtype == tf.float32


def test_strings_where_a_model_takes_nothing_else():
    class Text(keras.Model):
        def call(self, x):
            return tf.strings.length(x)

    model = Text()
    model.build((None,))
    assert signature_of(model).specs[0].dtype == tf.string


class Picky(keras.Model):
    """A model that can be traced with some dtypes alone."""

    def __init__(self, dtypes):
        super().__init__()
        self.dtypes = dtypes

    def build(self, shape):
        pass

    def call(self, x):
        if x.dtype not in self.dtypes:
            raise TypeError(f"no {x.dtype.name} here")
        return tf.shape(x)


@pytest.mark.parametrize("dtypes", [[tf.int64], [tf.int32, tf.string]], ids=["none that is tried", "two"])
def test_a_dtype_that_is_not_known_is_asked_for(dtypes, tmp_path):
    model = build(Picky(dtypes), tf.zeros([2, 4], dtypes[0]))
    with pytest.raises(ExportError, match="The dtypes of the inputs of .* are not known.*Pass input_signature="):
        unchecked(model, tmp_path)
    assert not list(tmp_path.iterdir())
    assert unchecked(model, tmp_path, input_signature=tf.TensorSpec([None, 4], dtypes[0])).inputs == ("inputs",)


def test_several_inputs_that_take_no_floats_are_asked_for(tmp_path):
    """Integers would do, but of all inputs or of which?"""
    model = build(Tokens(lambda model, x: tf.gather(model.table, x["ids"]) * x["weights"][..., None]), PAIR)
    with pytest.raises(ExportError, match="The dtypes of the inputs of .* are not known"):
        unchecked(model, tmp_path)


@keras.saving.register_keras_serializable("tests")
class Two(keras.Model):
    """`call` with two tensors, of which the second is given by name, and one that may be left out."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = keras.layers.Dense(2)
        self.norm = BatchNorm()

    def call(self, x, *, y, factor=None):
        outputs = self.norm(self.dense(x) - 2 * self.dense(y))
        return outputs if factor is None else factor * outputs


ROW = tf.TensorSpec([None, 3])


@pytest.mark.slow
@EVERY_FORMAT
def test_several_arguments_of_call(format, tmp_path):
    model, input_signature = build(Two(), FLOATS, y=FLOATS), (ROW, tf.TensorSpec([None, 3], name="query"))
    made = export(model, place(tmp_path, format), format=format, input_signature=input_signature, report=None)
    assert made.inputs == ("x", "query")
    assert made.largest_difference < 1e-5


@pytest.mark.parametrize(
    "input_signature",
    [(ROW, ROW), {"y": keras.InputSpec(shape=(None, 3), dtype="float32"), "x": keras.Input((3,))}],
    ids=["a tuple", "by name"],
)
def test_several_arguments_are_served_by_place_and_name(input_signature, tmp_path):
    model = build(Two(), FLOATS, y=FLOATS)
    assert unchecked(model, tmp_path, input_signature=input_signature).inputs == ("x", "y")
    served, x = tf.saved_model.load(tmp_path / "exported"), tf.constant(FLOATS)
    expected = model(FLOATS, y=3 * FLOATS, training=False)
    for outputs in (served.serve(x, 3 * x), served.serve(x, y=3 * x), served.serve(y=3 * x, x=x)):
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)


def test_an_argument_with_a_default_is_an_input_where_the_signature_says_so(tmp_path):
    model = build(Two(), FLOATS, y=FLOATS)
    settings = {"input_signature": {"x": ROW, "y": ROW, "factor": tf.TensorSpec([None, 1])}}
    assert unchecked(model, tmp_path, **settings).inputs == ("x", "y", "factor")
    served, x = tf.saved_model.load(tmp_path / "exported"), tf.constant(FLOATS)
    expected = 2 * model(FLOATS, y=FLOATS, training=False)
    np.testing.assert_allclose(served.serve(x, x, factor=tf.fill([2, 1], 2.0)), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_examples_of_several_arguments(tmp_path):
    model, settings = build(Two(), FLOATS, y=FLOATS), {"input_signature": (ROW, ROW), "report": None}
    made = export(model, tmp_path / "exported", examples={"y": FLOATS, "x": FLOATS}, **settings)
    assert "the examples in batches of 1 and 2" in made.verified.how
    with pytest.raises(ValueError, match=r"`examples` must have a value for each argument .* Missing: y"):
        export(model, tmp_path / "other", examples=FLOATS, **settings)
    with pytest.raises(ValueError, match=r"must have shape \(None, 3\). Received: \(2, 1\)"):
        export(model, tmp_path / "other", examples=(FLOATS, FLOATS[:, :1]), **settings)


def test_an_argument_without_a_shape_is_asked_for(tmp_path):
    """Keras keeps the shape of the first argument alone."""
    model = build(Two(), FLOATS, y=FLOATS)
    with pytest.raises(
        ExportError, match=r"The shape of y in the call\(x, \*, y, factor=None\).*Pass input_signature="
    ):
        unchecked(model, tmp_path)
    with pytest.raises(ValueError, match=r"`input_signature` must have a value for each argument .* Missing: y"):
        unchecked(model, tmp_path, input_signature=ROW)


@keras.saving.register_keras_serializable("tests")
class WithShapes(Two):
    """Keras keeps the shapes of all arguments that `build` takes."""

    def build(self, x_shape, y_shape):
        self.dense.build(x_shape)
        self.norm.build((*x_shape[:-1], 2))

    def call(self, x, y):
        return super().call(x, y=y)


@pytest.mark.slow
def test_shapes_of_several_arguments_that_keras_keeps(tmp_path):
    model = build(WithShapes(), FLOATS, FLOATS)
    for fold in (False, True):
        assert unchecked(model, tmp_path / str(fold), fold=fold).inputs == ("x", "y")
        served, x = tf.saved_model.load(tmp_path / str(fold) / "exported"), tf.constant(FLOATS)
        np.testing.assert_allclose(served.serve(x, 2 * x), model(FLOATS, 2 * FLOATS), rtol=0, atol=1e-5)


DTYPES = ["bool", "int32", "int64", "uint8"]


def sum_of_casts(inputs):
    dense = keras.layers.Dense(2)
    each = [dense(keras.ops.cast(x, "float32") / 3) for x in inputs.values()]
    return BatchNorm()(keras.layers.Add()(each))


@pytest.mark.slow
@EVERY_FORMAT
def test_inputs_of_other_dtypes(format, tmp_path):
    inputs = {dtype: keras.Input((3,), dtype=dtype, name=f"x_{dtype}") for dtype in DTYPES}
    made = export(keras.Model(list(inputs.values()), sum_of_casts(inputs)), place(tmp_path, format), format=format)
    assert made.inputs == tuple(f"x_{dtype}" for dtype in DTYPES)
    assert made.largest_difference < 1e-5


class Bytes(Named):
    """Of bytes, which Keras forgets: it traces the model with floats."""

    def call(self, x):
        return super().call(keras.ops.cast(x, "float32") / 255)


@pytest.mark.slow
@EVERY_FORMAT
def test_a_subclassed_model_of_bytes(format, tmp_path):
    model = build(Bytes(), IDS[:, :3].astype(np.uint8))
    assert signature_of(model).specs[0].dtype == tf.float32
    settings = {"input_signature": tf.TensorSpec([None, 3], tf.uint8), "format": format, "report": None}
    assert export(model, place(tmp_path, format), **settings).largest_difference < 1e-5
    assert signature_of(model, settings["input_signature"]).specs[0].dtype == tf.uint8


@pytest.mark.slow
@EVERY_FORMAT
def test_pixels_of_bytes_are_scaled_in_the_export(format, tmp_path):
    model = keras.Sequential([keras.Input((5, 5, 3)), keras.layers.Conv2D(2, 3), BatchNorm(), keras.layers.Flatten()])
    arguments = {"input_signature": tf.TensorSpec([None, 5, 5, 3], tf.uint8), "preprocessing": "tf", "report": None}
    made = export(model, place(tmp_path, format), format=format, fold=True, **arguments)
    assert made.largest_difference < 1e-5
    if format == "saved_model":
        pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
        served = tf.saved_model.load(made.path)
        np.testing.assert_allclose(served.serve(tf.constant(pixels)), model(pixels / 127.5 - 1), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_one_batch_size(tmp_path):
    made = export(sequential(), tmp_path / "exported", input_signature=tf.TensorSpec([2, 3]), report=None)
    assert "in batches of 2," in made.verified.how
    served = tf.saved_model.load(made.path)
    assert served.signatures["serve"].structured_input_signature[1]["inputs"].shape == (2, 3)
    with pytest.raises(ValueError, match=r"Received: an `input_signature` with batch sizes \[2, None\]"):
        unchecked(build(Two(), FLOATS, y=FLOATS), tmp_path / "other", input_signature=(tf.TensorSpec([2, 3]), ROW))


@pytest.mark.slow
@ONNX_NEEDED
def test_constants_are_no_inputs_of_onnx(tmp_path):
    """Keras' Normalization holds its mean and variance as constants; tf2onnx takes the large ones for inputs."""
    import onnx

    size = 200
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (20, size)))
    x = keras.Input((size,), name="x")
    model = keras.Model(x, {"y": BatchNorm()(keras.layers.Dense(2)(normalization(x)))})
    for opset in (None, 9):
        made = export(model, tmp_path / f"{opset}.onnx", format="onnx", opset=opset, report=None)
        file = onnx.load(made.path)
        assert [each.name for each in file.graph.input] == ["x"]
        assert [each.name for each in file.graph.output] == ["y"]
        assert made.largest_difference < 1e-5
        assert opset is None or opset in [each.version for each in file.opset_import if not each.domain]


@ONNX_NEEDED
@pytest.mark.parametrize("opset", [8, 99, "15", True])
def test_an_opset_that_tf2onnx_does_not_write(opset, tmp_path):
    with pytest.raises(ValueError, match=r"`opset` must be a whole number from 9 to \d\d, .* Received: " + repr(opset)):
        export(sequential(), tmp_path / "model.onnx", format="onnx", opset=opset, report=None)


@pytest.mark.slow
@ONNX_NEEDED
def test_an_onnx_file_with_other_inputs_is_refused(tmp_path):
    model = sequential(name="x")
    endpoint = Endpoint(model, signature_of(model))
    endpoint.inputs = ("x", "lost")
    with pytest.raises(ExportError, match="the file has the inputs x, where the model has lost, x"):
        write(FORMATS["onnx"], endpoint, tmp_path / "model.onnx")


@pytest.mark.slow
@EVERY_FORMAT
def test_an_input_that_no_output_depends_on(format, tmp_path):
    x, unused = keras.Input((3,), name="x"), keras.Input((3,), name="unused")
    model = keras.Model([x, unused], 2 * x)
    assert export(model, place(tmp_path, format), format=format, report=None).inputs == ("x", "unused")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "words"),
    [("tflite", "it has no op for HashTableV2"), pytest.param("onnx", "lookup tables of type", marks=ONNX_NEEDED)],
)
def test_a_look_up_table_that_a_format_has_not_is_told(format, words, tmp_path):
    table = keras.layers.IntegerLookup(vocabulary=[3, 5, 7])
    model = keras.Sequential([keras.Input((2,), dtype="int64"), table, keras.layers.Embedding(5, 3)])
    with pytest.raises(ExportError, match=words):
        export(model, place(tmp_path, format), format=format, report=None)


@pytest.mark.slow
def test_a_recurrent_layer_in_litert_takes_one_batch_size(tmp_path):
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.GRU(4), BatchNorm()])
    arguments = {"format": "tflite", "report": None}
    with pytest.raises(ExportError, match="a recurrent layer for one batch size alone. Pass input_signature="):
        export(model, tmp_path / "model.tflite", **arguments)
    made = export(model, tmp_path / "model.tflite", input_signature=tf.TensorSpec([1, 6, 3]), **arguments)
    assert made.largest_difference < 1e-5


class Custom(keras.layers.Layer):
    """A class that a file names and that only this process knows."""

    def call(self, x):
        return 2 * x


def test_custom_objects_of_a_file(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((3,)), Custom()]).save(path)
    arguments = {"custom_objects": {"Custom": Custom}, "check": False, "report": None}
    assert export(path, tmp_path / "exported", **arguments).inputs == ("inputs",)
