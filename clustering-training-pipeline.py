"""Stage 3: cluster the raw features and the latent space.

The same as ``./run.sh train-clusters``; ``--help`` lists the options.
"""

from core.__main__ import main

if __name__ == "__main__":
    main("train-clusters")
