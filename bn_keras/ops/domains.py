r"""Batch normalization with statistics per domain: a batch may hold examples of one domain or of several.

For an element of domain d, over the $m_d$ elements of the batch that belong to d,

$$ \mu_d = \frac{1}{m_d} \sum_{i \in d} x_i \qquad \sigma_d^2 = \frac{1}{m_d} \sum_{i \in d} (x_i - \mu_d)^2 \qquad
   y = \gamma_d \frac{x - \mu_d}{\sqrt{\sigma_d^2 + \epsilon}} + \beta_d $$

A batch of one domain is normalized by an implementation of `bn_keras.ops.kernels`. In a mixed batch, one pass takes the
moments of each example, whose sums over the examples of a domain are merged in float64, as those of replicas are in
`bn_keras.ops.kernels.replicas`. The small tensors of the merge have the shape `(batch, domains, channels)`.

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
from bn_keras.ops.moments import (
    Moments,
    finite_where_masked,
    in_dtype,
    moments_per_channel,
    only_where_present,
    other_axes,
    refuse_single_values,
    shifted_moments,
    statistics_dtype,
)
from bn_keras.ops.normalize import rescaled
from bn_keras.ops.settings import Settings, State
from bn_keras.ops.sums import total
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
    slope, level = rows(slope, domain), _nan_where_unknown(rows(level, domain), domain, mean.shape[0])
    if slope.shape.rank == len(axes):
        return batch_norm.affine(x, slope, level, axes)
    slope, level = (_along_channels(each, x, axes) for each in (slope, level))
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


def rows(table: tf.Tensor, domain: int | tf.Tensor) -> tf.Tensor:
    """The rows of a table for one domain, or for the domain of each example; zeros for one that is not in the table.

    >>> rows(tf.constant([[1.0], [2.0]]), tf.constant([1, 0, 1])).numpy().tolist()
    [[2.0], [1.0], [2.0]]
    """
    if isinstance(domain, int):
        return table[domain]
    chosen = _members(domain, table.shape[0])  # not `tf.gather`, whose gradient is sparse
    chosen = chosen[(..., *[tf.newaxis] * (table.shape.rank - 1))]
    return tf.reduce_sum(tf.where(chosen, table, tf.zeros([], table.dtype)), domain.shape.rank)


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
    domain = tf.reshape(domain, [-1] if kernel is None else [])
    scale, offset = rows(scale, domain), _nan_where_unknown(rows(offset, domain), domain, domains)
    if kernel is None:
        y, moments = _normalize_mixed(x, domain, scale, offset, mask, shape, settings)
        y = tf.nn.relu(y) if settings.relu else y
    else:
        y, moments = batch_norm.normalize(x, scale, offset, state, settings, mask, kernel)
        chosen = tf.reshape(_members(domain, domains), [-1] + [1] * (len(shape) - 1))
        values = (getattr(moments, field.name) for field in dataclasses.fields(moments))
        moments = Moments(*(tf.where(chosen, each, tf.zeros([], each.dtype)) for each in values))
    # One value per channel has no variance to learn from.
    return y, dataclasses.replace(moments, count=tf.where(moments.count > 1, moments.count, 0))


def _normalize_mixed(x, domain, scale, offset, mask, shape, settings):
    """Normalizes each example by the moments of its domain: γ and β come with a row per example."""
    members = _members(domain, shape[0])
    sum_over = replicas.sum_of_replicas if settings.synchronized and replicas.replica_context() else tf.identity
    axes, dtype = settings.axes, statistics_dtype(x.dtype)
    positions = other_axes(x.shape.rank, (0, *axes))

    def along(values):
        return _along_channels(tf.cast(values, dtype), x, axes)

    @tf.custom_gradient
    def differentiable(x, scale, offset):
        sums = sum_over(_by_domain(_sums_of_examples(x, mask, positions, shape[1:]), members))
        count, mean, variance = moments = replicas.moments_of_sums(sums)
        pivot = tf.cast(rows(mean, domain), dtype)
        correction = along(rows(mean, domain) - tf.cast(pivot, mean.dtype))
        pivot = along(pivot)
        inverse = along(tf.math.rsqrt(rows(variance, domain) + in_dtype(settings.epsilon, variance.dtype)))
        y = rescaled(tf.cast(x, dtype) - pivot, correction, inverse, along(scale), along(offset))

        def gradient(dy, *of_the_moments):
            present = finite_where_masked(x, mask)
            dy = tf.cast(dy, dtype)
            centred = tf.cast(present, dtype) - pivot
            sum_of_dy = total(tf.identity, [dy], positions)
            products = total(lambda x, dy: (tf.cast(x, dtype) - pivot) * dy, [present, dy], positions)
            of_examples = tf.stack([sum_of_dy, (products - correction * sum_of_dy) * inverse])
            of_examples = tf.reshape(of_examples, [2, -1, *shape[1:]])
            averages = tf.math.divide_no_nan(sum_over(_by_domain(of_examples, members)), tf.cast(count, dtype))
            through_mean, through_deviation = (along(rows(each, domain)) for each in tf.unstack(averages))
            slope = inverse * through_deviation
            through_moments = only_where_present(centred * slope + (through_mean - correction * slope), mask)
            dx = along(scale) * inverse * (dy - through_moments)
            return tf.cast(dx, x.dtype), of_examples[1], of_examples[0]

        return (tf.cast(y, x.dtype), *(tf.cast(each, dtype) for each in moments)), gradient

    y, *moments = differentiable(x, scale, offset)
    return y, moments_per_channel(*moments, shape)


def _sums_of_examples(x, mask, positions, sizes):
    """Count, sum and sum of squares of each example in float64, `(3, batch, channels)`: see `replicas`."""
    count, pivot, correction, variance = shifted_moments(x, positions, mask)
    count = tf.broadcast_to(count, tf.shape(pivot))
    count, pivot, correction, variance = (tf.cast(each, tf.float64) for each in (count, pivot, correction, variance))
    mean = pivot + correction
    sums = tf.stack([count, count * mean, count * (variance + tf.square(mean))])
    return tf.reshape(sums, [3, -1, *sizes])


def _by_domain(values, members):
    """Sums over the examples of each domain, `(n, domains, channels)`, of values `(n, batch, channels)`."""
    members = members[(tf.newaxis, ..., *[tf.newaxis] * (values.shape.rank - 2))]
    return tf.reduce_sum(tf.where(members, values[:, :, tf.newaxis], tf.zeros([], values.dtype)), 1)


def _members(domain, domains):
    """Whether an example belongs to each domain, `(batch, domains)`; `(domains,)` for a whole batch."""
    return tf.cast(domain, tf.int64)[..., tf.newaxis] == tf.range(domains, dtype=tf.int64)


def _nan_where_unknown(values, domain, domains):
    if isinstance(domain, int):
        return values
    known = tf.reduce_any(_members(domain, domains), -1)[(..., *[tf.newaxis] * (values.shape.rank - domain.shape.rank))]
    return tf.where(known, values, tf.constant(float("nan"), values.dtype))


def _table(values, state, axes):
    """Values as a table, also those that all domains share."""
    if values is None or values.shape.rank > len(axes):
        return values
    return tf.broadcast_to(values, state.moving_mean.shape)


def _along_channels(values, x, axes):
    """Rows of examples, shaped to broadcast against `x`."""
    sizes = dict(zip(axes, values.shape[1:], strict=True))
    return tf.reshape(values, [-1, *(sizes.get(i, 1) for i in range(1, x.shape.rank))])


def _along_examples(domain, x):
    """The domain of each example, of the rank of `x`, so that traces for batches of any size are one."""
    if domain.shape.rank == 0:
        domain = tf.fill([tf.shape(x)[0]], domain)
    return tf.reshape(tf.cast(domain, tf.int64), [-1] + [1] * (x.shape.rank - 1))
