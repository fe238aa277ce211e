"""The pages in docs/ that hold measured figures have the prose that their modules write today."""

import pathlib

import pytest

from bn_keras.pages import accuracy, folding, recalibration, serving

DOCS = pathlib.Path(__file__).parents[2] / "docs"
SETTINGS = recalibration.Settings()
TODAY = {
    "accuracy": [accuracy.INTRODUCTION],
    "folding": [folding.page_text([{"network": ""}], {}, folding.Settings()).split("\n\n|")[0]],
    "recalibration": [
        recalibration.introduction(SETTINGS, SETTINGS.examples),
        recalibration.INFERENCE,
        recalibration.ONE_PASS.format(even=recalibration.EVEN),
    ],
    "serving": [serving.page_text([{"network": ""}], serving.Settings().rounds).split("\n\n|")[0]],
}


@pytest.mark.parametrize("name", TODAY)
def test_the_prose_is_that_of_the_module(name):
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for text in TODAY[name]:
        assert text in page, f"run `bn-keras page {name}`, or bring its prose up to date"
