"""Run independent fits side by side, in processes that keep to one thread each.

Fits of a few thousand entities gain little from more threads and much from being made
two at a time. What a task returns must depend on its arguments alone; then neither the
number of workers nor the order in which they finish can change a result.

Workers are spawned, not forked: TensorFlow's threads do not survive a fork, and Windows
has none. Hence a task is a `functools.partial` of a module's function, and a script
that uses workers guards its own code with ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

from core.errors import ModelError

# A fit of another size leaves some 6 MB of compiled graphs behind; a process costs 5 s
# to start.
TASKS_PER_PROCESS = 50
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)

Task = Callable[[], Any]


class Workers:
    """Worker processes, to be used in a ``with`` statement.

    Parameters
    ----------
    n_workers : int, optional
        Processes; 0 runs every task in this process, None takes one per core.

    Raises
    ------
    ModelError
        For a negative number.
    """

    def __init__(self, n_workers: int | None = None) -> None:
        self.n_workers = n_cores() if n_workers is None else n_workers
        if self.n_workers < 0:
            raise ModelError(
                f"`workers` is {n_workers}; expected 0 (none, all in this process) or "
                "a number of processes."
            )
        self._processes: list[_Worker] = []
        self._next_ticket = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._processes:
            worker.stop()
        self._processes.clear()

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Any]]:
        """Yield (number, result) of each task, in the order in which they finish.

        Closing the iterator early leaves the tasks that wait undone, and the results of
        those that run unread.

        Parameters
        ----------
        tasks : iterable of callable
            Called without arguments; taken only as workers become free. Picklable, as
            their results are.

        Raises
        ------
        ModelError
            If a worker process ends by itself; and whatever a task raises.
        """
        if not self.n_workers:
            for number, task in enumerate(tasks):
                yield number, task()
            return
        waiting = enumerate(tasks)
        numbers: dict[int, int] = {}
        has_more = True
        while has_more or numbers:
            while has_more and (worker := self._free()) is not None:
                number, task = next(waiting, (-1, _nothing))
                has_more = number >= 0
                if has_more:
                    numbers[self._next_ticket] = number
                    worker.start(self._next_ticket, task)
                    self._next_ticket += 1
            if not numbers:
                return
            for ticket, is_done, result in self._answers():
                # Not those of an earlier iteration, closed before they were answered.
                if ticket in numbers:
                    if not is_done:
                        raise result
                    yield numbers.pop(ticket), result

    def _free(self) -> _Worker | None:
        """Return an idle worker, a new one if there may be one more, or None."""
        for worker in self._processes:
            if worker.ticket is None:
                if worker.n_done < TASKS_PER_PROCESS:
                    return worker
                worker.stop()
                self._processes.remove(worker)
                break
        if len(self._processes) < self.n_workers:
            self._processes.append(_Worker())
            return self._processes[-1]
        return None

    def _answers(self) -> Iterator[tuple[int, bool, Any]]:
        """Wait until at least one worker has answered; yield what they say."""
        busy = {w.connection: w for w in self._processes if w.ticket is not None}
        for connection in wait(list(busy)):
            worker = busy[connection]  # type: ignore[index]  # only ours were asked
            yield worker.answer()


class _Worker:
    """One process, and the pipe to it.

    A pipe of its own for each: the worker sees its end close when this process is
    killed, and this process sees it close when the worker is.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.ticket: int | None = None
        self.n_done = 0

    def start(self, ticket: int, task: Task) -> None:
        """Hand over a task."""
        self.ticket = ticket
        # A worker that is gone already is found out when its answer is read.
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def answer(self) -> tuple[int, bool, Any]:
        """Return the ticket, whether the task was done, and its result or error."""
        assert self.ticket is not None  # only busy workers are waited for
        try:
            is_done, result = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise ModelError(
                "a worker process ended unexpectedly (exit code "
                f"{self.process.exitcode}), most likely for lack of memory. Use fewer "
                "workers; in a script of your own, guard its code with `if __name__ "
                '== "__main__":`.'
            ) from None
        ticket, self.ticket = self.ticket, None
        self.n_done += 1
        return ticket, is_done, result

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection) -> None:
    """Answer tasks until the other end closes; runs in the worker process."""
    # Ctrl-C reaches every process of a terminal; the one that was asked decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read when NumPy and TensorFlow are imported, which is with the first task.
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            try:
                answer = (True, task())
            except Exception as error:
                answer = (False, error)
            connection.send(answer)


def _nothing() -> None:
    """Stand for a task where there is none."""


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
