"""Fits that take their time: made side by side, and kept as soon as they are done.

A store keeps each fit under its name, so that what was interrupted goes on where it
was. It belongs to one key (a model, a seed); opened with another one, it starts empty.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.arrays import load_arrays, save_arrays
from core.errors import ArtifactError
from core.evaluation.workers import Workers

KEY = "key.txt"
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Fit:
    """What is kept of one fit.

    Attributes
    ----------
    labels : ndarray of int64, shape (n_shops,)
        Cluster per shop, -1 for noise.
    figures : dict
        JSON-able figures.
    """

    labels: npt.NDArray[np.int64]
    figures: dict[str, Any] = field(default_factory=dict)


class FitStore:
    """A folder of finished fits.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    key : str
        What the fits belong to; those of another key are deleted.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        path = folder / KEY
        if not path.is_file() or path.read_text(encoding="utf-8") != key:
            self.discard()
            folder.mkdir(parents=True)
            path.write_text(key, encoding="utf-8")

    def get(self, name: str) -> Fit | None:
        """Return a fit, or None where it was not finished."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            arrays, figures = load_arrays(path)
            return Fit(arrays["labels"].astype(np.int64), figures)
        except (ArtifactError, KeyError):
            return None  # damaged, so it is made again

    def put(self, name: str, fit: Fit) -> None:
        """Keep a fit; a kill leaves it whole or not there."""
        interim = self.folder / f".new-{name}"
        save_arrays(interim, {"labels": fit.labels.astype(np.int32)}, fit.figures)
        interim.replace(self._path(name))

    def discard(self) -> None:
        """Delete the folder with everything in it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def run_fits(
    tasks: Mapping[str, Callable[[], Fit]],
    workers: Workers | None = None,
    store: FitStore | None = None,
) -> Iterator[tuple[str, Fit]]:
    """Yield each task's name and fit: the stored ones first, then as they finish.

    Parameters
    ----------
    tasks : mapping of name to callable
        Plain names: they become names of files.
    workers : Workers, optional
        None: one after the other, in this process.
    store : FitStore, optional
        Where finished fits are found and put.
    """
    waiting = []
    for name in tasks:
        fit = store.get(name) if store is not None else None
        if fit is None:
            waiting.append(name)
        else:
            yield name, fit
    runner = workers or Workers(0)
    for number, fit in runner.run(tasks[name] for name in waiting):
        if store is not None:
            store.put(waiting[number], fit)
        yield waiting[number], fit
