"""A norm as text: the names of arms, and what is typed on the command line."""

import json

import pytest

from bn_keras.choices.norm_text import norm_of, norms_of, text_of
from bn_keras.experiments import Recipe

EXAMPLES = [
    None, "batch", ("group", {"groups": 8}), ("batch", {"momentum": 0.9, "epsilon": 1e-05}),
    ("layer", {"center": False}), ("sync", {"momentum": 1}),
]  # fmt: skip


@pytest.mark.parametrize("norm", EXAMPLES, ids=text_of)
def test_text_names_one_norm(norm):
    assert norm_of(text_of(norm)) == norm


SEQUENCES = [
    ("layer", {"axis": [1, 2], "center": False}),
    ("renorm", {"renorm_clipping": {"rmax": 3.0, "rmin": 1 / 3, "dmax": 5.0}, "momentum": 0.9}),
    ("batch", {"name": "a,b: c", "fused": None}),
]


@pytest.mark.parametrize("norm", SEQUENCES, ids=text_of)
def test_options_with_commas_are_parsed_back(norm):
    assert norm_of(text_of(norm)) == norm
    assert norms_of(f"none,{text_of(norm)},group:groups=2") == (None, norm, ("group", {"groups": 2}))


def test_tuples_are_written_as_lists_so_that_stored_recipes_keep_their_arms():
    norms = (None, ("layer", {"axis": (1, 2)}))
    assert text_of(norms[1]) == "layer:axis=[1, 2]" == text_of(norm_of(text_of(norms[1])))
    recipe = Recipe(preset="vgg_small", data="digits", norms=norms, validation_examples=300)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))).arms == recipe.arms


@pytest.mark.parametrize("text", ["layer:axis=[1", "none,layer:axis=(1,2", "batch:name='a", "layer:axis=1]"])
def test_an_open_bracket_or_quote_is_refused(text):
    with pytest.raises(ValueError, match="expected every bracket and quote to be closed; received"):
        norms_of(text)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), {1, 2}, object()])
def test_a_value_without_a_text_form_is_refused(value):
    with pytest.raises(
        ValueError, match="The option 'epsilon' of a norm must be a finite number, .* Received: epsilon="
    ):
        text_of(("batch", {"epsilon": value}))


def test_a_list_of_norms_is_the_texts_with_commas():
    assert norms_of(",".join(map(text_of, EXAMPLES))) == tuple(EXAMPLES)


def test_options_follow_their_norm():
    found = norms_of("none,group:groups=4,epsilon=1e-3,layer")
    assert found == (None, ("group", {"groups": 4, "epsilon": 1e-3}), "layer")
    assert norms_of(" none , layer ") == (None, "layer")


@pytest.mark.parametrize("text", ["group:groups", "group:=4", "group:", "group:groups=4,8", "group:2=3"])
def test_an_option_is_a_key_and_a_value(text):
    with pytest.raises(ValueError, match="expected key=value"):
        norm_of(text)


def test_a_repeated_option_is_refused():
    with pytest.raises(ValueError, match="each option once; received 'group:groups=4,groups=8'"):
        norms_of("none,group:groups=4,groups=8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("groups=4,group", "Received: norm='groups=4'"),
        ("none,grop:groups=4", "Did you mean 'group'"),
        ("none,:groups=4", "Received: norm=''"),
        ("", "a tuple of different norms"),
        ("none,,none", "a tuple of different norms"),
    ],
)
def test_a_list_without_names_of_norms_is_refused_by_the_recipe(text, words):
    with pytest.raises(ValueError, match=words):
        Recipe(preset="mlp_sigmoid", data="digits", norms=norms_of(text))
