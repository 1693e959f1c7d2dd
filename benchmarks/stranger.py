"""The path of a stranger, timed: a fresh clone, then the wheel alone.

Clones this repository into a folder of its own, follows the README there, builds the
wheel, installs it alone into an environment of its own, outside the checkout, and runs
the sample, the notebook, the examples, the estimator as `docs/any-table.md` has it, and
the API. Nothing is edited; a step that fails ends the walk with what it said. Prints a
Markdown table of seconds: ``python benchmarks/stranger.py``. Needs git and the package
index, some 5 GB of disk for the time of the walk, and takes about eight minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
IS_WINDOWS = os.name == "nt"
RUN = "run.bat" if IS_WINDOWS else "./run.sh"
# What the example of docs/any-table.md takes as given.
GIVEN = """
import numpy as np, polars as pl
def members(n, seed):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    return pl.DataFrame({
        "spend": np.exp(1.1 * group + rng.normal(0, 0.2, n)),
        "visits": 3 + 4 * group + rng.normal(0, 0.4, n),
        "plan": np.array(["free", "pro", "team"])[group],
    })
table, new_rows, next_month = members(600, 1), members(50, 2), members(600, 3)
"""


class Walk:
    """The steps taken, with their seconds.

    Parameters
    ----------
    work : Path
        A folder that is empty.
    """

    def __init__(self, work: Path) -> None:
        self.checkout, self.elsewhere = work / "checkout", work / "elsewhere"
        self.elsewhere.mkdir()
        folder = self.elsewhere / ".venv" / ("Scripts" if IS_WINDOWS else "bin")
        self.python, self.segments = str(folder / "python"), str(folder / "segments")
        # Neither this checkout nor the environment of this process is within reach.
        hidden = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
        self.environ = {k: v for k, v in os.environ.items() if k not in hidden}
        self.total = 0.0

    @contextmanager
    def timed(self, what: str, shown: str) -> Iterator[None]:
        """Time a step and print its row."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self.total += seconds
        print(f"| {what} | `{shown}` | {seconds:.0f} |", flush=True)

    def run(self, folder: Path, *command: str) -> str:
        """Run a command in a folder and return what it printed."""
        done = subprocess.run(
            command, cwd=folder, env=self.environ, check=False, capture_output=True,
            text=True, encoding="utf-8", errors="replace", shell=IS_WINDOWS,
        )  # fmt: skip
        if done.returncode:
            said = (done.stdout + done.stderr).splitlines()[-30:]
            sys.exit("\n".join([f"{' '.join(command)}: {done.returncode}", *said]))
        return done.stdout

    def step(self, what: str, shown: str, folder: Path, *command: str) -> str:
        """Run a command, timed."""
        with self.timed(what, shown):
            return self.run(folder, *command)


def walk_checkout(walk: Walk) -> None:
    """Take the steps of a fresh clone."""
    here = walk.checkout
    url = REPOSITORY.as_uri()
    walk.step("Clone", "git clone", here.parent, "git", "clone", "-q", url, here.name)
    said = walk.step("Environment and first report", RUN, here, RUN)
    if "report.html" not in said:
        sys.exit(f"no report was named:\n{said}")
    walk.step("The same again", RUN, here, RUN)
    python = here / Path(walk.python).relative_to(walk.elsewhere)
    with walk.timed("Site of the documentation", "mkdocs build"):
        docs = ("-c", "constraints.txt", "-e", ".[docs]")
        walk.run(here, str(python), "-m", "pip", "install", "-q", *docs)
        walk.run(here, str(python), "-m", "mkdocs", "build", "-q")


def walk_elsewhere(walk: Walk) -> None:
    """Take the steps of who has the wheel and no checkout."""
    source, here, python = walk.checkout, walk.elsewhere, walk.python
    with walk.timed("Wheel in an environment of its own", "pip install *.whl"):
        builder = str(source / Path(python).relative_to(here))
        wheel = ("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(here), ".")
        walk.run(source, builder, *wheel)
        walk.run(here, sys.executable, "-m", "venv", ".venv")
        pins = str(source / "constraints.txt")
        files = [str(path) for path in here.glob("*.whl")]
        walk.run(here, python, "-m", "pip", "install", "-q", "-c", pins, *files)
    for name in ("docs/quickstart.ipynb", ".ci/notebook.py", "docs/any-table.md"):
        shutil.copy(source / name, here)
    shutil.copytree(source / "examples", here / "examples")
    shutil.rmtree(source)  # what needs it from here on fails
    found = walk.run(here, python, "-c", "import stable_segments as s; print(s)")
    if ".venv" not in found or "site-packages" not in found:
        sys.exit(f"imported from elsewhere: {found}")
    walk.step("The sample", "segments run", here, walk.segments, "run")
    page = (here / "any-table.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    script = GIVEN + block[1]
    (here / "estimator.py").write_text(script, encoding="utf-8")
    walk.step("The estimator of any-table.md", "python", here, python, "estimator.py")
    notebook = (python, "notebook.py", "quickstart.ipynb")
    walk.step("The notebook", "quickstart.ipynb", here, *notebook)
    for name in ("shops", "steps", "customers", "baskets"):
        file = f"examples/{name}.py"
        walk.step(f"The example of {name}", f"python {file}", here, python, file)
    with walk.timed("API over customers on axes", "segments axes; serve"):
        answer_of_api(walk)


def answer_of_api(walk: Walk) -> None:
    """Fill a store, serve it, and ask for a customer of it."""
    here = walk.elsewhere
    walk.run(here, walk.segments, "axes", "--set", "axes.sample_customers=500")
    told = walk.run(here, walk.segments, "keys", "create", "--store", "default")
    key = told.split()[-1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [walk.segments, "serve", "--port", str(port)],
        cwd=here, env=walk.environ, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        table = here / "artifacts" / "axes" / "customer_profiles.parquet"
        first = f"import polars as p; print(p.read_parquet({str(table)!r})[0, 0])"
        customer = walk.run(here, walk.python, "-c", first).strip()
        url = f"http://127.0.0.1:{port}/segments/customer/{customer}"
        asked = urllib.request.Request(url, headers={"X-API-Key": key})
        for _ in range(300):
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    assert json.load(answer)["customer_id"] == customer
                return
            except urllib.error.URLError:
                time.sleep(0.1)
        sys.exit("the API gave no answer within 30 s")
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    """Walk, and print the table."""
    with tempfile.TemporaryDirectory(prefix="stranger-") as folder:
        walk = Walk(Path(folder))
        print("| step | command | seconds |\n|---|---|---:|", flush=True)
        walk_checkout(walk)
        walk_elsewhere(walk)
        print(f"| all | | {walk.total:.0f} |")


if __name__ == "__main__":
    main()
