"""Which options of `BatchNorm` can be combined: one table for the constructor, the tests and docs/options.md."""

import itertools

# What an option is called, and whether the arguments of a constructor have it on.
OPTIONS = {
    "momentum=None": lambda arguments: arguments["momentum"] is None,
    "bias_correction=True": lambda arguments: arguments["bias_correction"],
    "renorm=True": lambda arguments: arguments["renorm"],
    "virtual_batch_size=n": lambda arguments: arguments["virtual_batch_size"] is not None,
    "synchronized=True": lambda arguments: arguments["synchronized"],
    "group_size=n": lambda arguments: arguments["group_size"] is not None,
    "fused=True": lambda arguments: arguments["fused"] is True,
    "accumulation_steps=n": lambda arguments: arguments["accumulation_steps"] is not None,
}

# Pairs that make no sense together, and why.
REFUSED = {
    ("momentum=None", "bias_correction=True"): "the average of all batches has no bias to correct",
    ("renorm=True", "virtual_batch_size=n"): "renormalization removes the noise that virtual batches add",
    ("renorm=True", "group_size=n"): "renormalization removes the noise that groups of replicas add",
    ("virtual_batch_size=n", "synchronized=True"): (
        "one takes the moments of fewer examples than a replica has, the other of more"
    ),
    ("virtual_batch_size=n", "group_size=n"): (
        "one takes the moments of fewer examples than a replica has, the other of more"
    ),
    ("virtual_batch_size=n", "fused=True"): "the kernel takes the moments of the whole batch",
    ("synchronized=True", "fused=True"): "the kernel takes the moments of one replica",
    ("group_size=n", "fused=True"): "the kernel takes the moments of one replica",
    ("virtual_batch_size=n", "accumulation_steps=n"): "one averages the variances of parts of a batch, the other pools",
    ("group_size=n", "accumulation_steps=n"): "one averages the variances of groups of replicas, the other pools",
}

# Options that mean nothing without another.
NEEDED = {"group_size=n": "synchronized=True"}


def refusals(arguments):
    """What cannot be combined in these arguments (a dict that has the name of each option): the options, and why."""
    on = {name for name, is_on in OPTIONS.items() if is_on(arguments)}
    for name, other in NEEDED.items():
        if name in on and other not in on:
            yield (name, other), f"`{name}` needs `{other}`", f"Pass {other} too"
    for (name, other), reason in REFUSED.items():
        if name in on and other in on:
            yield (name, other), f"`{name}` cannot be combined with `{other}`: {reason}", "Leave one at its default"


def check_combination(layer):
    """Raises `ValueError` with the reason, if the arguments of a `BatchNorm` do not go together."""
    arguments = {name.partition("=")[0]: getattr(layer, name.partition("=")[0]) for name in OPTIONS}
    for names, reason, advice in refusals(arguments):
        options = [name.partition("=")[0] for name in names]
        received = ", ".join(f"{option}={arguments[option]!r}" for option in options)
        raise ValueError(f"{reason}. Received: {received}. {advice}.")


def combinations():
    """Every set of options that is not refused."""
    for size in range(len(OPTIONS) + 1):
        for names in itertools.combinations(OPTIONS, size):
            pairs = set(itertools.combinations(names, 2))
            if not pairs & set(REFUSED) and all(NEEDED[name] in names for name in NEEDED if name in names):
                yield names
