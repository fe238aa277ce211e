"""JAX: the layers of flax.linen under `jax.jit`."""

from bn_keras.bench.peers import EPSILON, GROUPS, MOMENTUM, NotOfferedError, inputs_of


def prepare(case):
    import jax
    import jax.numpy as jnp
    from flax import linen

    if case.how == "eager":
        raise NotOfferedError("JAX is measured compiled")
    dtype = jnp.bfloat16 if case.dtype == "mixed_bfloat16" else jnp.float32
    x, dy = (jnp.asarray(each, dtype) for each in inputs_of(case))
    layer = layer_of(linen, case, dtype)
    variables = layer.init(jax.random.key(0), x)
    state = {name: value for name, value in variables.items() if name != "params"}
    forward = forward_of(layer)
    if case.mode in {"training", "gradients"}:
        step, arguments = jax.jit(training_step(jax, forward, case.mode)), (variables["params"], state, x, dy)
    else:
        step, arguments = jax.jit(forward), (variables["params"], state, x)
    return lambda: jax.block_until_ready(step(*arguments))


def layer_of(linen, case, dtype):
    if case.layer == "batch":
        return linen.BatchNorm(
            case.mode == "inference", axis=case.axis, momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype
        )
    if case.layer == "layer":
        return linen.LayerNorm(epsilon=EPSILON, dtype=dtype)
    if case.layer == "rms":
        return linen.RMSNorm(epsilon=EPSILON, dtype=dtype)
    if case.layer == "group":
        return linen.GroupNorm(GROUPS, epsilon=EPSILON, dtype=dtype)
    return linen.InstanceNorm(epsilon=EPSILON, dtype=dtype)


def forward_of(layer):
    """Output and new state."""
    return lambda params, state, x: layer.apply({"params": params, **state}, x, mutable=list(state))


def training_step(jax, forward, mode):
    def step(params, state, x, dy):
        y, pullback, new_state = jax.vjp(lambda params, x: forward(params, state, x), params, x, has_aux=True)
        return y if mode == "training" else y.sum(), new_state, pullback(dy)

    return step
