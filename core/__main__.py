"""``python -m core VERB``: the same command as the console script ``segments``."""

from core.cli import main

if __name__ == "__main__":
    main()
