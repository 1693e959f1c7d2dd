"""Stage 4: label every shop from the saved artifacts.

The same as ``python -m core infer``; ``--help`` lists the options.
"""

from core.cli import run_script

if __name__ == "__main__":
    run_script("infer")
