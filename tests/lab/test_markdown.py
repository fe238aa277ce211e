"""Pieces of Markdown."""

from bn_keras.lab.markdown import facts, sentence, size, table, table_of


def test_tables():
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"
    assert table(("a", "b", "c"), [], left=1) == "| a | b | c |\n| --- | ---: | ---: |"
    assert table_of([{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"


def test_sentences():
    assert sentence("target: 97 %") == "Target: 97 %."
    assert sentence("Done.") == "Done."


def test_facts_leave_out_what_is_unknown():
    assert facts({"processor": "Abacus", "cores": 2, "memory": None}) == "processor Abacus, cores 2"


def test_sizes():
    assert size([28, 28, 1]) == "28×28×1"
