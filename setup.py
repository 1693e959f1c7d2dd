"""Build of the wheel: `core` is installed under the name `stable_segments`.

Everything else about the package is in pyproject.toml. A checkout, and an editable
installation of it, keep `core`; there ``stable_segments/`` is another name of it.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

OLD, NEW = "core", "stable_segments"


def renamed(text: str, modules: list[str]) -> str:
    """Return Python code with every mention of the package under its new name.

    Variables and arguments that are called `core` stay: what is renamed is followed by
    the name of one of its modules, or is the subject of an import.
    """
    inside = rf"(?<![\w.]){OLD}(?=\.(?:{{|(?:{'|'.join(modules)})\b))"
    imported = rf"(?m)^(\s*(?:from|import) ){OLD}(?= import |$)"
    return re.sub(imported, rf"\1{NEW}", re.sub(inside, NEW, text))


class BuildRenamed(build_py):
    """Copies the package, then gives it its new name."""

    def run(self) -> None:
        """Build; an editable installation is left as it is."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)  # of an earlier build
        super().run()
        old, new = Path(self.build_lib, OLD), Path(self.build_lib, NEW)
        shutil.rmtree(new)  # the other name, which is needed in a checkout only
        old.rename(new)
        modules = [p.stem for p in new.iterdir() if p.is_dir() or p.suffix == ".py"]
        for path in new.rglob("*.py"):
            text = renamed(path.read_text(encoding="utf-8"), modules)
            path.write_text(text, encoding="utf-8", newline="\n")


setup(cmdclass={"build_py": BuildRenamed})
