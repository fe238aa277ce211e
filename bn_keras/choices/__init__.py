"""What users choose from: names, ranges and the text form of norms.

Nothing here imports Keras, so the command line helps, completes and refuses before TensorFlow is loaded.
"""
