"""`split_domains` and `merge_domains`: the same outputs, with a domain as an input and without."""

import keras
import numpy as np
import pytest
from keras import layers

from bn_keras import Affine, BatchNorm, DomainBatchNorm, SyncBatchNorm, surgery
from bn_keras.surgery import fold, merge_domains, split_domains
from tests.layers.test_batch_norm import close

DOMAIN = np.array([0, 2, 1, 1])


def randomized(model, random):
    model.set_weights([random.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


def nested():
    """A graph with a shared model inside, that a row inside of it, and batch norms of all kinds."""
    inner = keras.Input((6,), name="inner")
    row = keras.Sequential([keras.Input((6,)), layers.Dense(6), SyncBatchNorm(name="sync")], name="row")
    block = keras.Model(inner, layers.BatchNormalization(name="theirs")(row(inner)), name="block")
    inputs = [keras.Input((6,), name=name) for name in "ab"]
    x = layers.Add()([block(each) for each in inputs])
    return keras.Model(inputs, BatchNorm(name="ours", activation="relu")(x), name="model")


def flat():
    x = inputs = keras.Input((5, 5, 3), name="image")
    for i in range(2):
        x = layers.Conv2D(4, 3, use_bias=False, name=f"conv_{i}")(x)
        x = BatchNorm(momentum=0.5, name=f"norm_{i}")(x)
    return keras.Model({"image": inputs}, layers.GlobalAveragePooling2D()(x))


def row():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4), BatchNorm(scale=False, name="norm")], name="row")


def inputs_of(model, random):
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(lambda each: random.normal(size=(4, *each.shape[1:])).astype(np.float32), structure)


def with_domain(inputs, domain):
    if isinstance(inputs, dict):
        return inputs | {"domain": domain}
    return [*(inputs if isinstance(inputs, list) else [inputs]), domain]


@pytest.mark.slow
@pytest.mark.sample(2)
@pytest.mark.parametrize("make", [nested, flat, row])
@pytest.mark.parametrize("shared_affine", [True, False])
def test_split_and_merged_again(random, make, shared_affine):
    model = randomized(make(), random)
    before, x = model.get_weights(), inputs_of(model, random)
    split = split_domains(model, 3, shared_affine=shared_affine, strict=True, report=None)
    assert surgery.report(split).verified
    expected = model.predict(x, verbose=0)
    close(split.predict(with_domain(x, DOMAIN), verbose=0), expected, 1e-5)
    norms = [layer for layer in surgery.tree.layers_of(split) if isinstance(layer, DomainBatchNorm)]
    assert len(norms) == len(surgery.report(split).of("converted"))
    for norm in norms:
        norm.moving_mean.assign(random.normal(size=norm.moving_mean.shape))
        assert shared_affine or norm.beta.shape[0] == 3
    merged = merge_domains(split, 2, strict=True, report=None)
    assert surgery.report(merged).verified
    assert merged.input_shape == model.input_shape
    assert [tensor.name for tensor in merged.inputs] == [tensor.name for tensor in model.inputs]
    found = merged.predict(x, verbose=0)
    close(found, split.predict(with_domain(x, np.full(4, 2)), verbose=0), 1e-5)
    assert np.abs(found - expected).max() > 0.1
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


@pytest.mark.slow
def test_domains_train_apart_and_survive_a_file(random, tmp_path):
    split = split_domains(randomized(flat(), random), 2, report=None)
    split.compile("sgd", "mse")
    x = inputs_of(split, random)
    x["domain"] = np.array([0, 1, 0, 1])
    split.fit(x, np.zeros((4, 4)), verbose=0)
    mean = split.get_layer("norm_0").moving_mean.numpy()
    assert np.all(mean[0] != mean[1])
    split.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), split.predict(x, verbose=0))


@pytest.mark.slow
def test_fold_after_merging_and_not_before(random):
    split = split_domains(randomized(flat(), random), 2, report=None)
    kept = fold(split, report=None)
    assert {row.outcome for row in surgery.report(kept).rows} == {"kept"}
    assert "merge_domains" in surgery.report(kept).rows[0].why
    folded = fold(merge_domains(split, 1, report=None), strict=True, report=None)
    assert not [layer for layer in folded.layers if isinstance(layer, (BatchNorm, DomainBatchNorm, Affine))]


class Block(layers.Layer):
    """Code that calls a batch norm without a domain."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = BatchNorm(name="inside")

    def call(self, x, training=None):
        return self.norm(x, training=training)


def test_what_stays_is_named(random):
    x = inputs = keras.Input((3,))
    x = BatchNorm(renorm=True, name="renorm")(Block()(x))
    x = layers.TimeDistributed(BatchNorm(name="wrapped"))(layers.Reshape((3, 1))(x))
    model = randomized(keras.Model(inputs, BatchNorm(name="split")(layers.Flatten()(x))), random)
    split = split_domains(model, 2, report=None)
    assert {row.layer: row.outcome for row in surgery.report(split).rows} == {
        "inside": "kept",
        "renorm": "kept",
        "wrapped": "kept",
        "split": "converted",
    }
    reasons = "\n".join(surgery.report(split).reasons())
    for words in ("code of Block", "code of TimeDistributed", "no counterpart of renorm=True"):
        assert words in reasons
    with pytest.raises(ValueError, match="strict=True does not allow"):
        split_domains(model, 2, strict=True, report=None)


def test_inputs_that_something_else_uses_stay(random):
    x, domain = keras.Input((3,), name="x"), keras.Input((), dtype="int32", name="which")
    y = layers.Concatenate()([DomainBatchNorm(2)(x, domain=domain), layers.Embedding(2, 3)(domain)])
    model = randomized(keras.Model([x, domain], y), random)
    for chosen in (0, 1):
        merged = merge_domains(model, chosen, report=None)
        assert surgery.report(merged).verified
        assert [tensor.name for tensor in merged.inputs] == ["x", "which"]
        values = [random.normal(size=(4, 3)).astype(np.float32), np.full(4, chosen, np.int32)]
        close(merged(values), model(values), 1e-6)


def test_a_domain_that_comes_through_layers(random):
    x, domain = keras.Input((3,), name="x"), keras.Input((1,), name="which")
    which = keras.ops.cast(layers.Reshape(())(domain), "int32")
    model = randomized(keras.Model([x, domain], DomainBatchNorm(2)(x, domain=which)), random)
    for chosen in (0, 1):
        merged = merge_domains(model, chosen, report=None)
        assert surgery.report(merged).verified
        assert merged.input_shape == (None, 3), "the input that only tells the domain is gone"
        values = [random.normal(size=(4, 3)).astype(np.float32), np.full((4, 1), chosen, np.float32)]
        close(merged(values[0]), model(values), 1e-6)


def test_a_domain_that_comes_through_layers_of_a_model_inside(random):
    x, which = keras.Input((3,), name="x"), keras.Input((1,), dtype="int32", name="which")
    block = keras.Model([x, which], DomainBatchNorm(2)(x, domain=keras.ops.reshape(which, (-1,))), name="block")
    x, domain = keras.Input((3,), name="x"), keras.Input((), dtype="int32", name="told")
    model = randomized(keras.Model([x, domain], block([x, keras.ops.expand_dims(domain, 1)])), random)
    merged = merge_domains(model, 1, report=None)
    assert surgery.report(merged).verified
    assert [tensor.name for tensor in merged.inputs] == ["x"]
    assert merged.get_layer("block").input_shape == (None, 3)


def test_a_domain_that_two_inputs_tell(random):
    x, *parts = keras.Input((3,), name="x"), *(keras.Input((), dtype="int32", name=name) for name in "ab")
    model = randomized(keras.Model([x, *parts], DomainBatchNorm(2)(x, domain=parts[0] + parts[1])), random)
    merged = merge_domains(model, 1, report=None)
    assert "computes the domain" in surgery.report(merged).verified.how
    values = random.normal(size=(4, 3)).astype(np.float32)
    assert merged.input_shape == (None, 3)
    close(merged(values), model([values, np.ones(4, np.int32), np.zeros(4, np.int32)]), 1e-6)


def test_a_model_inside_with_an_input_called_domain(random):
    inner = keras.Input((3,), name="domain")
    block = keras.Model({"domain": inner}, BatchNorm(name="norm")(layers.Dense(4, name="domain_1")(inner)))
    inputs = keras.Input((3,), name="x")
    model = randomized(keras.Model(inputs, block({"domain": inputs})), random)
    split = split_domains(model, 2, strict=True, report=None)
    assert surgery.report(split).verified
    assert [tensor.name for tensor in split.inputs] == ["x", "domain"]
    merged = merge_domains(split, 1, report=None)
    assert surgery.report(merged).verified
    assert merged.input_shape == (None, 3)


def test_other_surgery_on_domains(random):
    split = split_domains(randomized(row(), random), 2, report=None)
    assert surgery.freeze(split, report=None).get_layer("norm").frozen
    assert "merge_domains" in surgery.report(surgery.to_keras(split, report=None)).rows[0].why
    with pytest.raises(ValueError, match="statistics per domain"):
        surgery.recalibrate(split, np.zeros((4, 3)), report=None)
    optimizer = surgery.exclude_from_weight_decay(keras.optimizers.AdamW(), split)
    assert optimizer is not None


def test_what_is_refused(random):
    model = randomized(row(), random)
    split = split_domains(model, 2, report=None)
    inputs = keras.Input((3,))
    fixed = keras.Model(inputs, DomainBatchNorm(2, name="fixed")(inputs, domain=0))
    constant = keras.Model(inputs, DomainBatchNorm(2, name="constant")(inputs, domain=np.int64(0)))
    layer = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="domain"), BatchNorm()])
    code = keras.Sequential([Block()])
    code.build((None, 3))

    class Custom(keras.Model):
        def call(self, x):
            return x

    custom = Custom()
    custom(np.zeros((1, 3)))
    for call, words in [
        (lambda: split_domains(model, 1), "`domains` must be an int ≥ 2"),
        (lambda: split_domains(split, 2), "has an input named 'domain'"),
        (lambda: split_domains(layer, 2), "has a layer named 'domain'"),
        (lambda: split_domains(code, 2), "finds no batch norm that can be split"),
        (lambda: split_domains(custom, 2), "changes the inputs of functional and Sequential models"),
        (lambda: merge_domains(model, 0), "finds no DomainBatchNorm"),
        (lambda: merge_domains(split, 2), r"`domain` must be in \[0, 1\]"),
        (lambda: merge_domains(fixed, 1), "'fixed' is called with domain=0, which is fixed"),
        (lambda: merge_domains(constant, 1, verify=False), "'constant' is called with domain=0, which is fixed"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="`domain` must be an int"):
        merge_domains(split, "a")
    assert merge_domains(fixed, 0, report=None).input_shape == (None, 3)


def test_an_activity_regularizer_stays(random):
    norm = BatchNorm(name="norm", activity_regularizer="l2")
    split = split_domains(randomized(keras.Sequential([keras.Input((3,)), norm]), random), 2, report=None)
    assert split.get_layer("norm").activity_regularizer is not None
    assert merge_domains(split, 1, report=None).get_layer("norm").activity_regularizer is not None
