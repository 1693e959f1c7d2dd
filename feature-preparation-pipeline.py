"""Stage 1: from sales rows to the features of the eligible shops.

The same as ``./run.sh prepare``; ``--help`` lists the options.
"""

from core.__main__ import main

if __name__ == "__main__":
    main("prepare")
