"""Stage 2: fit the scaler and the autoencoder.

The same as ``python -m core train-autoencoder``; ``--help`` lists the options.
"""

from core.cli import run_script

if __name__ == "__main__":
    run_script("train-autoencoder")
