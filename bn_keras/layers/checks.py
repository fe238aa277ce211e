"""Arguments of layers, checked when they are given."""

import numbers
import operator

CLIPPING = ("rmin", "rmax", "dmax")


def checked_axis(axis: int | list[int] | tuple[int, ...]) -> int | list[int]:
    """An int, or a list of different ints."""
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if not axes or not all(hasattr(each, "__index__") and not isinstance(each, bool) for each in axes):
        raise TypeError(
            "Expected an int or a list/tuple of ints for the argument 'axis'. "
            f"Received: axis={axis!r} (of type {type(axis).__name__}). Use -1 for the last axis."
        )
    axes = [operator.index(each) for each in axes]
    return axes if isinstance(axis, (list, tuple)) else axes[0]


def checked_channel_axis(axis: int) -> int:
    """An int: channels in groups lie along one axis."""
    checked = checked_axis(axis)
    if isinstance(checked, list):
        raise TypeError(f"`axis` must be an int, the axis of the channels. Received: axis={axis!r}.")
    return checked


def checked_groups(groups: int) -> int:
    if isinstance(groups, bool) or not isinstance(groups, int) or (groups < 1 and groups != -1):
        raise ValueError(
            f"The argument `groups` must be an int ≥ 1, or -1 for a group per channel. Received: groups={groups!r}."
        )
    return groups


def groups_of(groups: int, channels: int) -> int:
    """The number of groups, once that of the channels is known."""
    if groups > channels:
        raise ValueError(f"`groups` cannot be more than the number of channels, {channels}. Received: {groups}.")
    if channels % groups:
        raise ValueError(f"`groups` must divide the number of channels, {channels}. Received: groups={groups}.")
    return channels if groups == -1 else groups


def checked_number(name: str, value: float, at_least: float, at_most: float = float("inf")) -> float:
    allowed = f"a number ≥ {at_least}" if at_most == float("inf") else f"in [{at_least}, {at_most}]"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {allowed}. Received: {name}={value!r} (of type {type(value).__name__}). Pass a float."
        )
    if not at_least <= value <= at_most:
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}. Pass a float within.")
    return float(value)


def checked_momentum(momentum: float | None) -> float | None:
    """A number in [0, 1], or `None` for the average of all batches."""
    return None if momentum is None else checked_number("momentum", momentum, at_least=0, at_most=1)


def checked_choice(name: str, value, choices: tuple):
    if not any(value is each for each in choices):
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}.")
    return value


def checked_count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be an int ≥ 1. Received: {name}={value!r}.")
    return value


def checked_classes(classes: int | None) -> int | None:
    return None if classes is None else checked_count("classes", classes)


def checked_size(name: str, value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 2):
        raise ValueError(f"`{name}` must be None or an int ≥ 2. Received: {name}={value!r}.")
    return value


def checked_domains(domains: int) -> int:
    if isinstance(domains, bool) or not isinstance(domains, int) or domains < 2:
        raise ValueError(f"`domains` must be an int ≥ 2. Received: domains={domains!r}. Use BatchNorm for one domain.")
    return domains


def checked_clipping(clipping: dict | None) -> dict:
    clipping = dict(clipping or {})
    if set(clipping) - set(CLIPPING):
        raise ValueError(
            f"Received invalid keys for `renorm_clipping` argument: {clipping}. Supported: {sorted(CLIPPING)}."
        )
    rmin, rmax, dmax = map(clipping.get, CLIPPING)
    if rmin is not None and rmax is not None and rmax < rmin:
        raise ValueError(f"rmax should be ≥ rmin in `renorm_clipping`. Received: rmax={rmax}, rmin={rmin}.")
    if dmax is not None and dmax < 0:
        raise ValueError(f"dmax should be non-negative in `renorm_clipping`. Received: dmax={dmax}.")
    return clipping
