"""The claims about normalization, one experiment each.

`bn-keras claims` measures them. In Python:

>>> from bn_keras.experiments.claims.catalog import claim_named
>>> claim_named("C8").question
'By what factor does the gradient norm grow from a layer to the layer before it, before any training?'
"""
