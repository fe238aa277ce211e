"""The lists of names are those of the code, which the command line does not import for its help."""

import pytest

from bn_keras.bench.peers import PEERS
from bn_keras.choices import names
from bn_keras.experiments import augmentation, optimizers
from bn_keras.experiments.claims import catalog
from bn_keras.experiments.cluster import KINDS
from bn_keras.export import preprocessing
from bn_keras.models import list_presets, norms, registry

LISTS = {
    "AUGMENTATIONS": augmentation.AUGMENTATIONS,
    "CLAIMS": catalog.MODULES,
    "NORMS": norms()[1:],
    "OPTIMIZERS": optimizers.OPTIMIZERS,
    "PREPROCESSING": preprocessing.PREPROCESSING,
    "PRESETS": list_presets(),
    "SCHEDULES": optimizers.SCHEDULES,
    "STRATEGIES": KINDS,
}


def test_every_claim_has_its_title():
    assert {claim.id: claim.title for claim in catalog.all_claims()} == names.CLAIMS


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_names_is_that_of_the_code(name):
    assert list(getattr(names, name)) == list(LISTS[name])


def test_the_names_of_peers_are_those_of_the_code_and_their_first_words():
    assert set(names.PEERS) == {word for name in PEERS for word in (name, name.split()[0])}


def test_each_preset_stands_in_its_family():
    for family, presets in names.FAMILIES.items():
        module = __import__(f"bn_keras.models.{family}", fromlist=["PRESETS"])
        assert sorted(entry.name for entry in module.PRESETS) == sorted(presets)
    assert len(registry.PRESETS) == len(names.PRESETS)


def test_a_suggestion_is_the_nearest_name_or_nothing():
    assert names.suggestion("resnet2", names.PRESETS) == " Did you mean 'resnet20'?"
    assert names.suggestion("x", names.PRESETS) == ""
