r"""Batch normalization with statistics per domain: a batch may hold examples of one domain or of several.

For an element of domain d, over the $m_d$ elements of the batch that belong to d,

$$ \mu_d = \frac{1}{m_d} \sum_{i \in d} x_i \qquad \sigma_d^2 = \frac{1}{m_d} \sum_{i \in d} (x_i - \mu_d)^2 \qquad
   y = \gamma_d \frac{x - \mu_d}{\sqrt{\sigma_d^2 + \epsilon}} + \beta_d $$

A batch of one domain is normalized by an implementation of `bn_keras.ops.kernels`. In a mixed batch, one pass takes the
moments of each example, and `bn_keras.ops.mixed_domains` merges those of a domain.

A table holds one row per domain: `(domains, channels)`. An example whose domain is not in the tables gets NaN, and
counts in no statistics.

Source: Chang et al. 2019, "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation",
https://arxiv.org/abs/1906.03950, section 3.1.
"""

import dataclasses
import types

import tensorflow as tf

from bn_keras.ops import batch_norm
from bn_keras.ops.compiler import accelerated, in_xla_context
from bn_keras.ops.dispatch import kernel_for, settings_for
from bn_keras.ops.kernels import replicas
from bn_keras.ops.mixed_domains import along_channels, members, nan_where_unknown, normalize_mixed, rows
from bn_keras.ops.moments import (
    Moments,
    in_dtype,
    refuse_single_values,
    statistics_dtype,
)
from bn_keras.ops.settings import Settings, State
from bn_keras.ops.traces import run, see


def train(
    x: tf.Tensor,
    domain: int | tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    state: State,
    settings: Settings,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, State]:
    """Normalizes each example by the moments of its domain in the batch, and updates the statistics of these domains.

    The module's docstring has the equations. Shapes and dtypes are those of `bn_keras.ops.batch_norm.train`, except for
    the tables.

    Args:
        x: Float tensor, the input.
        domain: Int, or int tensor of shape `()` for the whole batch or `(batch,)` for each example.
        scale: Table γ, or a tensor of shape `(channels,)` that all domains share, or `None` for 1.
        offset: Table β, or a tensor of shape `(channels,)` that all domains share, or `None` for 0.
        state: `State` of tables, the statistics before this batch; `steps` has the shape `(domains,)`.
        settings: `Settings`, how to normalize; without `renorm`, `virtual_batch_size` and `group_size`.
        mask: As in `bn_keras.ops.batch_norm.train`. Defaults to `None`.

    Returns:
        `(y, state)`: the output, and the statistics after this batch. A domain of which the batch has no element, or
        one per channel, keeps its statistics.

    Raises:
        ValueError: If the shape shows one value per channel, unless other replicas have more.

    References:
        [Chang et al. 2019](https://arxiv.org/abs/1906.03950), section 3.1.

    Example:

    >>> state = State(moving_mean=tf.zeros([2, 1]), moving_variance=tf.ones([2, 1]))
    >>> settings = Settings(axes=(1,), momentum=0.0, epsilon=0.0)
    >>> x = tf.constant([[1.0], [10.0], [3.0], [30.0]])
    >>> y, state = train(x, tf.constant([0, 1, 0, 1]), None, None, state, settings)
    >>> y[:, 0].numpy().round(4).tolist(), state.moving_mean[:, 0].numpy().tolist()
    ([-1.0, -1.0, 1.0, 1.0], [2.0, 20.0])
    """
    see(x, settings.axes)
    together = settings.synchronized and replicas.replica_context() is not None
    scale, offset = (_table(each, state, settings.axes) for each in (scale, offset))
    mixed = not isinstance(domain, int) and (domain.shape.rank == 1 or together)  # replicas may have different ones
    kernel = None if mixed else kernel_for(x, mask, settings)
    settings = settings if kernel is None else settings_for(kernel, settings)
    if not together:
        refuse_single_values(x.shape, settings.axes)
    domain = _along_examples(domain, x) if mixed else tf.cast(domain, tf.int64)
    domains = state.moving_mean.shape[0]  # as an int: a shared trace may not know the sizes of tensors
    batch = x, domain, domains, scale, offset, state, settings, mask, kernel
    if not replicas.replica_context():
        return run(_step, batch, settings.axes)
    if together:
        y, moments = _normalize(*batch)
    else:
        y, moments = run(_normalize, batch, settings.axes)
        moments = replicas.moments_of_all_replicas(moments)
    return y, batch_norm.update(state, moments, settings)


def infer(
    x: tf.Tensor,
    domain: int | tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    state: State,
    settings: Settings,
) -> tf.Tensor:
    r"""Normalizes each example by the moving statistics of its domain: one affine map per domain and channel.

    $$ y = s_d \cdot x + (\beta_d - s_d \mu_d) \qquad s_d = \frac{\gamma_d}{\sqrt{\sigma_d^2 + \epsilon}} $$

    Args:
        x: Float tensor, the input.
        domain: Int, or int tensor of shape `()` or `(batch,)`, as in `train`.
        scale: Tensor γ as in `train`, or `None` for 1.
        offset: Tensor β as in `train`, or `None` for 0.
        state: `State` of tables, the moving statistics.
        settings: `Settings`, how to normalize.

    Returns:
        The output, of the dtype and shape of `x`.

    References:
        [Chang et al. 2019](https://arxiv.org/abs/1906.03950), section 3.1.

    Example:

    >>> state = State(moving_mean=tf.constant([[1.0], [2.0]]), moving_variance=tf.constant([[4.0], [1.0]]))
    >>> infer(tf.constant([[3.0]]), 1, None, None, state, Settings(axes=(1,), epsilon=0.0)).numpy().tolist()
    [[1.0]]
    """
    axes, dtype = settings.axes, statistics_dtype(x.dtype)
    scale, offset = (_table(each, state, axes) for each in (scale, offset))
    mean, variance = (tf.cast(each, dtype) for each in (state.moving_mean, state.moving_variance))
    slope = tf.math.rsqrt(variance + in_dtype(settings.epsilon, dtype))
    slope = slope if scale is None else tf.cast(scale, dtype) * slope
    level = (0 if offset is None else tf.cast(offset, dtype)) - mean * slope
    if isinstance(domain, int):
        return batch_norm.affine(x, slope[domain], level[domain], axes)
    chosen = members(domain, mean.shape[0])
    slope, level = rows(slope, chosen), nan_where_unknown(rows(level, chosen), chosen)
    if domain.shape.rank == 0:
        return batch_norm.affine(x, slope, level, axes)
    slope, level = (along_channels(each, x, axes) for each in (slope, level))
    return tf.cast(tf.cast(x, dtype) * slope + level, x.dtype)


def with_known_domains(domain: tf.Tensor, domains: int, learns: bool) -> tf.Tensor:
    """The domains, checked: where they have values, and in the graph of a training step on a CPU.

    Raises:
        ValueError: If a value is out of range.
    """
    message = f"Each `domain` must be in [0, {domains - 1}], as the layer has domains={domains}."
    if tf.executing_eagerly():
        values = tf.reshape(domain, [-1])
        unknown = tf.boolean_mask(values, (values < 0) | (values >= domains))
        if tf.size(unknown):
            raise ValueError(f"{message} Received: {int(unknown[0])}. Number the domains from 0, or raise `domains`.")
        return domain
    if not learns or accelerated() or in_xla_context():
        return domain
    known = tf.reduce_all((domain >= 0) & (domain < domains))
    with tf.control_dependencies([tf.debugging.Assert(known, [message, "Received:", domain])]):
        return tf.identity(domain)


def one_per_example(domain: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The domains, checked to be as many as the examples where the shapes of a graph do not show it.

    Raises:
        InvalidArgumentError: An error of TensorFlow, when the graph runs. The words are ours but under XLA, which drops
            assertions.
    """
    if domain.shape.rank == 0 or (domain.shape[0] is not None and domain.shape[0] == x.shape[0]):
        return domain
    examples, domains = tf.shape(x)[0], tf.shape(domain)[0]
    message = [
        "`domain` must be a scalar, or one domain for each example. Received: domains:", domains, "examples:", examples
    ]  # fmt: skip
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(domains, examples), message)]):
        return tf.reshape(domain, [examples])


def _step(x, domain, domains, scale, offset, state, settings, mask, kernel):
    y, moments = _normalize(x, domain, domains, scale, offset, state, settings, mask, kernel)
    return y, batch_norm.update(state, moments, settings)


def _normalize(
    x: tf.Tensor,
    domain: tf.Tensor,
    domains: int,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    state: State,
    settings: Settings,
    mask: tf.Tensor | None,
    kernel: types.ModuleType | None,
) -> tuple[tf.Tensor, Moments]:
    """The output of a training step, and tables of the moments; without a kernel the batch is mixed."""
    shape, dtype = (domains, *(x.shape[axis] for axis in settings.axes)), statistics_dtype(x.dtype)
    scale = tf.ones(shape, dtype) if scale is None else tf.ensure_shape(tf.cast(scale, dtype), shape)
    offset = tf.zeros(shape, dtype) if offset is None else tf.ensure_shape(tf.cast(offset, dtype), shape)
    chosen = members(tf.reshape(domain, [-1] if kernel is None else []), domains)
    if kernel is None:
        y, moments = normalize_mixed(x, chosen, scale, offset, mask, settings)
        y = tf.nn.relu(y) if settings.relu else y
    else:
        scale, offset = rows(scale, chosen), nan_where_unknown(rows(offset, chosen), chosen)
        y, moments = batch_norm.normalize(x, scale, offset, state, settings, mask, kernel)
        chosen = tf.reshape(chosen, [-1] + [1] * (len(shape) - 1))
        values = (getattr(moments, field.name) for field in dataclasses.fields(moments))
        moments = Moments(*(tf.where(chosen, each, tf.zeros([], each.dtype)) for each in values))
    # One value per channel has no variance to learn from.
    return y, dataclasses.replace(moments, count=tf.where(moments.count > 1, moments.count, 0))


def _table(values, state, axes):
    """Values as a table, also those that all domains share."""
    if values is None or values.shape.rank > len(axes):
        return values
    return tf.broadcast_to(values, state.moving_mean.shape)


def _along_examples(domain, x):
    """The domain of each example, of the rank of `x`, so that traces for batches of any size are one."""
    if domain.shape.rank == 0:
        domain = tf.fill([tf.shape(x)[0]], domain)
    return tf.reshape(tf.cast(domain, tf.int64), [-1] + [1] * (x.shape.rank - 1))
