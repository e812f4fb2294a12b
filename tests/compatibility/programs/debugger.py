"""A client for debugpy, small as can be: it sets one breakpoint in every process that it is told of, and goes on."""

from __future__ import annotations

import itertools
import json
import queue
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Stop:
    """Where a process stood at the breakpoint."""

    pid: int
    function: str
    line: int


class Session:
    """One debugged process, by the debug adapter protocol: headers, an empty line, and JSON."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO, inbox: queue.Queue[tuple[Session, Any]]) -> None:
        self.pid = 0
        self._reading, self._writing, self._inbox = reading, writing, inbox
        self._numbers = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()

    def request(self, command: str, **arguments: Any) -> None:
        message = {"seq": next(self._numbers), "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._writing.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._writing.flush()

    def begin(self, request: str, **arguments: Any) -> None:
        self.request("initialize", adapterID="test", clientID="test", linesStartAt1=True, pathFormat="path")
        self.request(request, **arguments)

    def _read(self) -> None:
        while True:
            length = 0
            while (line := self._reading.readline().strip()) or not length:
                if not line:
                    return
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self._inbox.put((self, json.loads(self._reading.read(length))))


class Debugger:
    """Runs a program under debugpy, its children too, and notes each stop at the breakpoint."""

    def __init__(self, program: Path, line: int, arguments: list[str]) -> None:
        self.program, self.line, self.arguments = program, line, arguments
        self.stops: list[Stop] = []
        self.output = ""
        self.exit_code: int | None = None
        self._inbox: queue.Queue[tuple[Session, Any]] = queue.Queue()
        self._sockets: list[socket.socket] = []

    def run(self, seconds: float) -> None:
        adapter = subprocess.Popen(
            [sys.executable, "-m", "debugpy.adapter"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert adapter.stdin is not None
        assert adapter.stdout is not None
        try:
            root = Session(adapter.stdout, adapter.stdin, self._inbox)
            root.begin(
                "launch",
                program=str(self.program),
                args=self.arguments,
                python=[sys.executable],
                console="internalConsole",
                redirectOutput=True,
                subProcess=True,
                justMyCode=False,
            )
            while True:
                session, message = self._inbox.get(timeout=seconds)
                if message.get("event") == "terminated" and session is root:
                    return
                self._handle(session, message)
        finally:
            for each in self._sockets:
                each.close()
            adapter.kill()
            adapter.communicate()

    def _handle(self, session: Session, message: Any) -> None:
        body = message.get("body") or {}
        if message["type"] == "response":
            assert message["success"], message
            if message["command"] == "stackTrace":
                frame = body["stackFrames"][0]
                self.stops.append(Stop(session.pid, frame["name"], frame["line"]))
                session.request("continue", threadId=0)
            return
        match message.get("event"):
            case "initialized":
                source = {"path": str(self.program)}
                session.request("setBreakpoints", source=source, breakpoints=[{"line": self.line}])
                session.request("configurationDone")
            case "process":
                session.pid = body["systemProcessId"]
            case "debugpyAttach":
                self._attach(body)
            case "stopped":
                session.request("stackTrace", threadId=body["threadId"], levels=1)
            case "exited":
                self.exit_code = body["exitCode"] if session.pid else self.exit_code
            case "output" if body.get("category") in ("stdout", "stderr"):
                self.output += body["output"]

    def _attach(self, configuration: Any) -> None:
        address = configuration["connect"]["host"], configuration["connect"]["port"]
        connection = socket.create_connection(address, timeout=30)
        connection.settimeout(None)
        self._sockets.append(connection)
        session = Session(connection.makefile("rb"), connection.makefile("wb"), self._inbox)
        session.begin("attach", **{key: value for key, value in configuration.items() if key != "request"})
