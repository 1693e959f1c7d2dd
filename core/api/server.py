"""A server process, or several, around the application."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from core.api.app import ApiSettings, create_app
from core.api.connections import LimitedConnection
from core.api.middleware import MULTIPROCESS, configure_json, log
from core.config import Config
from core.errors import ConfigError, StoreError
from core.scratch import temporary_folder
from core.store import Store

# Seconds between two looks at database and workers, and for requests to end in.
LOOK_SECONDS = 3.0
GRACE_SECONDS = 10
# Longer than clients and proxies keep an idle connection (nginx: 60 s), so that it is
# not closed under a request on its way.
IDLE_SECONDS = 75


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop, or one that psycopg can work with on Windows."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop()
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def serve(
    config: Config,
    n_workers: int = 1,
    around: Callable[[str, Store], AbstractContextManager[None]] | None = None,
    *,
    only_dashboard: bool = False,
) -> None:
    """Serve the API and the dashboard until the process is told to stop.

    Parameters
    ----------
    config : Config
        Options of ``store``; the embedded database lies in the artifacts folder.
    n_workers : int
        Processes that answer requests.
    around : callable, optional
        Called with the address and the store; what it returns is entered before the
        first request and left after the last.
    only_dashboard : bool
        Leave the API out, and log what goes wrong only.

    Raises
    ------
    StoreError
        If the database cannot be started, reached or used.
    ConfigError
        If the address cannot be listened on.
    """
    options = config.store
    folder = Path(config.artifacts) / "postgres"
    listener = listen(options.host, options.port)
    with listener, _ended_by_signals(), Store.open(options.url, folder) as store:
        settings = ApiSettings(
            store.address,
            options.max_body_bytes,
            options.max_orders,
            options.max_items,
            rate_limit=options.rate_limit,
            trusted_proxies=tuple(options.trusted_proxies),
            session_secret=secrets.token_urlsafe(32),
            only_dashboard=only_dashboard,
        )
        entered = around(url_of(listener), store) if around else nullcontext()
        with entered, _kept_running(store):
            run(settings, listener, n_workers)


def run(settings: ApiSettings, listener: socket.socket, n_workers: int = 1) -> None:
    """Answer requests on a socket until the process is told to stop."""
    if n_workers == 1:
        _server(settings).run(sockets=[listener])
        return
    context = multiprocessing.get_context("spawn")
    # Closed at the end, or by the system when this process dies, which the others see;
    # an event would hang once one of them was killed while it waited for it.
    ours, theirs = context.Pipe()

    def begin() -> BaseProcess:
        worker = context.Process(target=_work, args=(settings, listener, theirs))
        worker.start()
        return worker

    with temporary_folder() as metrics:
        os.environ[MULTIPROCESS] = str(metrics)
        workers = [begin() for _ in range(n_workers)]
        try:
            while True:
                time.sleep(LOOK_SECONDS)
                for place, worker in enumerate(workers):
                    if not worker.is_alive():
                        code = worker.exitcode
                        log(logging.ERROR, "worker ended, another begins", code=code)
                        workers[place] = begin()
        finally:
            ours.close()
            theirs.close()
            for worker in workers:
                worker.join(GRACE_SECONDS + 5)
                if worker.is_alive():
                    worker.kill()
                    worker.join()


def _make_app(settings: ApiSettings) -> FastAPI:
    configure_json(logging.WARNING if settings.only_dashboard else logging.INFO)
    app = create_app(settings)
    # What is there now stays: looking through its 155,000 objects for garbage, now and
    # then, would stop all requests for 80 ms (measured).
    gc.collect()
    gc.freeze()
    # An assignment computes beside the event loop and hands over to it after this long
    # instead of 5 ms: reads beside assignments had a p99 of 6 ms, not 19.
    sys.setswitchinterval(0.0005)
    return app


def server_config(app: Any, settings: ApiSettings, **more: Any) -> uvicorn.Config:
    """Return how uvicorn is to serve an application, or what `more` makes of it."""
    return uvicorn.Config(
        app,
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
        http=LimitedConnection,
        ws="none",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        **more,
    )


def _server(settings: ApiSettings) -> uvicorn.Server:
    loop = "core.api.server:new_event_loop"
    make = partial(_make_app, settings)
    return uvicorn.Server(server_config(make, settings, factory=True, loop=loop))


def _work(settings: ApiSettings, listener: socket.socket, first: Connection) -> None:
    """Be one of several processes; end with the first one, however that ends."""
    server = _server(settings)

    def watch() -> None:
        with suppress(OSError):
            first.poll(None)
        server.should_exit = True

    threading.Thread(target=watch, name="first process", daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises
    ------
    ConfigError
        If the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    if os.name == "posix":
        # Elsewhere it would let two servers share a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on `{host}` port {port} ({error.strerror or error}). "
            "Choose another with `--port` (0: a free one) or `--host`."
        ) from None
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address that clients on this machine reach a socket at."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn a request to end into an exception, so that everything is closed.

    uvicorn ends gracefully first, then raises the signal again, which by default would
    end the process on the spot and leave the embedded database running.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGINT", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _kept_running(store: Store) -> Iterator[None]:
    """Start the embedded database again, should it be killed."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(LOOK_SECONDS):
            try:
                store.ensure_running()
            except StoreError as error:
                log(logging.ERROR, "database", error=str(error))

    watcher = threading.Thread(target=watch, name="database", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
