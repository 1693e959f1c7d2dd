"""Stage 2: fit the scaler and the autoencoder.

The same as ``./run.sh train-autoencoder``; ``--help`` lists the options.
"""

from core.__main__ import main

if __name__ == "__main__":
    main("train-autoencoder")
