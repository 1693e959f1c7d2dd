"""Stage 4: label every shop from the saved artifacts.

The same as ``./run.sh infer``; ``--help`` lists the options.
"""

from core.__main__ import main

if __name__ == "__main__":
    main("infer")
