"""Stage 1: from sales rows to the features of the eligible shops.

The same as ``python -m core prepare``; ``--help`` lists the options.
"""

from core.cli import run_script

if __name__ == "__main__":
    run_script("prepare")
