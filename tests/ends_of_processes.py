"""What processes run that have something to do at their end, or at their beginning."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import time
from multiprocessing import util
from typing import Any


class StandIn:
    """Stands for an object that is not there, as a framework's between two requests: asked for its name, it says so."""

    def __getattr__(self, name: str) -> Any:
        if name == "__qualname__":
            raise RuntimeError("there is nothing behind it")
        raise AttributeError(name)

    def __call__(self, connection: Any) -> None:
        connection.send("called")


def leave_a_finalizer(connection: Any) -> None:
    util.Finalize(None, connection.send, args=("finalized",), exitpriority=0)
    connection.send("returned")


def leave_a_daemon(context: Any, connection: Any) -> None:
    daemon = context.Process(target=time.sleep, args=(1000,), daemon=True)
    daemon.start()
    connection.send(daemon.pid)


def log_to_the_end(connection: Any) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            connection.send(record.getMessage())

    logger = multiprocessing.get_logger()
    logger.setLevel(logging.INFO)
    logger.addHandler(Handler())


def leave_an_exit_handler(connection: Any) -> None:
    atexit.register(connection.send, "at exit")
    connection.send("returned")
