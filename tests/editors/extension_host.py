"""The process in which a real VS Code runs extensions: what its code costs, and what it keeps."""

import bisect
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from desk import until
from vscode import NODE

HERE = Path(__file__).resolve().parent

#: Microseconds between samples of a profile.
INTERVAL = 100

#: Node listens where it always does; one test at a time does this.
PORT = 9229


def pid_of(desk):
    """The process that runs extensions for the window on this desk."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"--type=extensionHost" in command and str(desk.home).encode() in environment:
                return int(entry.name)
    return None


class ExtensionHost:
    """The extension host of a window, under a debugger."""

    def __init__(self, window):
        self.pid = until(lambda: pid_of(window.desk), "the extension host")
        os.kill(self.pid, signal.SIGUSR1)
        command = [NODE / "node", HERE / "inspector.mjs", str(PORT)]

        def begin():
            self.inspector = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            try:
                return self.call("Runtime.getHeapUsage")
            except (BrokenPipeError, json.JSONDecodeError):
                self.close()
                return None

        until(begin, "the debugger answers")

    def call(self, method, **params):
        """Calls a method of V8's inspector protocol."""
        self.inspector.stdin.write(json.dumps({"method": method, "params": params}) + "\n")
        self.inspector.stdin.flush()
        return json.loads(self.inspector.stdout.readline())

    def heap(self):
        """MiB of objects that are still used."""
        # What the first round sets free may hold others by finalizers.
        for _ in range(2):
            self.call("HeapProfiler.collectGarbage")
        return self.call("Runtime.getHeapUsage")["usedSize"] / (1 << 20)

    def profile(self, act):
        """What `act` returns, and the CPU profile of what ran meanwhile."""
        self.call("Profiler.enable")
        self.call("Profiler.setSamplingInterval", interval=INTERVAL)
        self.call("Profiler.start")
        return act(), self.call("Profiler.stop")["profile"]

    def close(self):
        self.inspector.kill()
        self.inspector.wait(10)
        self.inspector.stdin.close()
        self.inspector.stdout.close()


class OnCore:
    """When the main thread of a process had a core, by `perf`, in microseconds of the monotonic clock.

    A sample of a profile stands for the time until the next; on a busy machine the thread spends most
    of the longest ones waiting for a core.
    """

    RECORD = ["perf", "record", "--quiet", "--switch-events", "--event", "dummy", "--clockid", "CLOCK_MONOTONIC"]

    def __init__(self, pid, folder):
        self.data = folder / "perf.data"
        command = [*self.RECORD, "--tid", str(pid), "--output", self.data]
        self.recorder = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(self.data.exists, "perf records")

    @classmethod
    def can_be_had(cls):
        """Whether there is a `perf` that may look."""
        command = [*cls.RECORD, "--output", os.devnull, "true"]
        return shutil.which("perf") is not None and subprocess.run(command, capture_output=True).returncode == 0

    def close(self):
        self.recorder.send_signal(signal.SIGINT)
        self.recorder.wait(30)

    def end(self):
        """Records no more; from here on it can be asked."""
        self.close()
        command = ["perf", "script", "--input", self.data, "--show-switch-events", "--ns"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.begins, self.ends = [], []
        for at, what in re.findall(r"(\d+\.\d+): PERF_RECORD_SWITCH (IN|OUT)", said):
            if what == "IN":
                self.begins.append(float(at) * 1e6)
            elif len(self.ends) < len(self.begins):
                self.ends.append(float(at) * 1e6)
        if not self.ends:
            raise AssertionError("perf saw the extension host on no core")
        del self.begins[len(self.ends) :]

    def within(self, begin, end):
        """How much of this time the thread had a core."""
        total = 0
        for n in range(max(bisect.bisect(self.begins, begin) - 1, 0), len(self.begins)):
            if self.begins[n] >= end:
                break
            total += max(min(end, self.ends[n]) - max(begin, self.begins[n]), 0)
        return total
