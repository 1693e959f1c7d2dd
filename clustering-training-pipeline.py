"""Stage 3: cluster the raw features and the latent space.

The same as ``python -m core train-clusters``; ``--help`` lists the options.
"""

from core.cli import run_script

if __name__ == "__main__":
    run_script("train-clusters")
