"""What experiments, benchmarks and pages share: stored results, the machine, Markdown and the style of pictures.

Nothing is imported here: the workers of the benchmark import `bn_keras.lab.machine` alone.
"""
