"""All claims, by their ids."""

import difflib
import importlib

from bn_keras.experiments.claims.claim import Claim

MODULES = {
    "C1": "c01_faster",
    "C2": "c02_higher_rates",
    "C3": "c03_initialization",
    "C4": "c04_saturating",
    "C5": "c05_regularizes",
    "C6": "c06_distributions",
    "C7": "c07_covariate_shift",
    "C8": "c08_explosion",
    "C9": "c09_length_direction",
    "C10": "c10_population",
    "C11": "c11_batch_size",
    "C12": "c12_scale",
    "C13": "c13_decorrelation",
    "C14": "c14_residual",
    "C15": "c15_algorithm",
}


class ClaimError(ValueError):
    """There is no claim of that id."""


def claim_named(name: str) -> Claim:
    """The claim with an id.

    Args:
        name: `"C1"` to `"C15"`; small letters will do.

    Raises:
        ClaimError: For another name.

    >>> claim_named("c12").title
    'Layer norm ignores the scale of its input, and trains as it infers'
    """
    if name.upper() not in MODULES:
        near = difflib.get_close_matches(name.upper(), MODULES, n=1)
        raise ClaimError(
            f"Unknown claim {name!r}. " + (f"Did you mean {near[0]}?" if near else f"Claims: {', '.join(MODULES)}.")
        )
    return importlib.import_module(f"bn_keras.experiments.claims.{MODULES[name.upper()]}").CLAIM


def all_claims() -> list[Claim]:
    """Every claim, in the order of the ids."""
    return [claim_named(name) for name in MODULES]
