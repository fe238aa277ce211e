"""`python -m bn_keras` is `bn-keras`."""

from bn_keras.cli import main

main(prog_name="bn-keras")
