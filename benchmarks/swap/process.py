"""A server and all processes that it started: begin, measure, end."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MIB = 2**20


def engine_environ() -> dict[str, str]:
    """What every server's environment gets."""
    return {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


class ServerFailed(RuntimeError):
    """The server ended or did not come up; the message ends with its last lines."""


class ServerProcess:
    """One server at ``url``. It is started by ``start``, again after ``kill`` or a death of its own."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], log: Path, url: str, ready_path: str
    ) -> None:
        self.url = url
        self._command = list(command)
        self._environ = {**os.environ, **environ}
        self._log = log
        self._ready = url + ready_path
        self._http = httpx.Client(timeout=2, verify=False)  # no TLS here, and its context costs 20 ms
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}
        self._log_begins = 0  # of the present start

    @property
    def running(self) -> bool:
        """Whether the server's own process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, limit: float = 600) -> float:
        """Start, and return the seconds until it says that it is ready. Raises ServerFailed."""
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdout=log, stderr=log, start_new_session=True
            )
        while time.perf_counter() - began < limit:
            if not self.running:
                raise ServerFailed(f"exit code {self._process.returncode}\n{self.tail()}")
            if self.ready():
                self._tree()
                return time.perf_counter() - began
            time.sleep(0.1)
        self.kill()
        raise ServerFailed(f"not ready after {limit:g} s\n{self.tail()}")

    def ready(self) -> bool:
        """Whether the readiness route says 200 now."""
        try:
            return self._http.get(self._ready).status_code == 200
        except httpx.HTTPError:
            return False

    def memory(self) -> dict[str, float]:
        """MiB of all processes together: ``rss``, which counts shared pages for each, and ``pss``."""
        sums = {"rss": 0.0, "pss": 0.0}
        for process in self._tree():
            try:
                info = process.memory_full_info()
            except psutil.Error:
                continue
            sums["rss"] += info.rss / MIB
            sums["pss"] += info.pss / MIB
        return sums

    def kill_engine(self) -> None:
        """SIGKILL the engine's process: the largest one that the server started."""
        assert self._process is not None
        children = [each for each in self._tree() if each.pid != self._process.pid]
        max(children, key=lambda each: each.memory_info().rss).kill()

    def kill(self, wait: float = 5.0) -> int:
        """SIGKILL the server's own process; return how many that it started had to be killed, too, as a
        supervisor would, because they still ran ``wait`` seconds later.
        """
        if self._process is None:
            return 0
        tree = self._tree()
        self._process.kill()
        self._process.wait()
        _, left = psutil.wait_procs(tree, timeout=wait)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)
        self._seen.clear()
        return len(left)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self._process is not None and self.running:
            self._tree()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(45)
        self.kill(wait=5)

    def tail(self, lines: int = 12) -> str:
        """The log's last lines."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def cause(self) -> str:
        """The first exception since the last start that a process of the engine ended with, from the log."""
        said = self._log.read_bytes()[self._log_begins :].decode(errors="replace")
        found = re.search(r"^.*(?:EngineCore|Worker).*\] (\w*(?:Error|Exception)\b.*)$", said, re.M)
        return found[1][:300] if found else self.tail(3)

    def _tree(self) -> list[psutil.Process]:
        """The server and everything it started that still runs, orphans of a killed server included."""
        try:
            if self._process is not None:
                server = psutil.Process(self._process.pid)
                for process in (server, *server.children(recursive=True)):
                    self._seen[process.pid] = process
        except psutil.NoSuchProcess:
            pass
        return [process for process in self._seen.values() if process.is_running()]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
