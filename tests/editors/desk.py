"""A place to run an editor: a home, a workspace, the server with its wire tapped, deadlines.

Holds: nothing of the user's is read or written; every wait is for an event and has a deadline.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PREFIX = Path(os.environ.get("PAIRWRIGHT_EDITORS", ROOT / "target/editors")).resolve()
SERVER = Path(os.environ.get("PAIRWRIGHT_BIN", ROOT / "target/debug/pairwright")).resolve()
ARTIFACTS = ROOT / "tests/artifacts"

# Where tests find `scripted_model`.
sys.path.append(str(ROOT / "tests/support"))

#: A missing editor fails its tests instead of skipping them.
REQUIRED = os.environ.get("CI") == "1" or os.environ.get("PAIRWRIGHT_REQUIRE_EDITORS") == "1"

#: Seconds after which a wait has failed. Generous: machines that test are busy.
PATIENCE = 20

#: A file the embedded engine can learn from, and one that begins as it does.
PRICES = """\
export function totalPrice(items) {
  let total = 0;
  for (const item of items) {
    total += item.price * item.quantity;
  }
  return total;
}

export function totalWeight(items) {
  let total = 0;
  for (const item of items) {
    total += item.weight * item.quantity;
  }
  return total;
}

export function totalVolume(items) {
  let total = 0;
  for (const item of items) {
    total += item.volume * item.quantity;
  }
  return total;
}
"""

#: Settings that name a server of tools, one of which adds numbers.
TOOLS = {"servers": {"notes": {"command": "python3", "args": [str(ROOT / "tests/support/mcp_server.py")]}}}


class Timeout(AssertionError):
    pass


def until(event, what, seconds=PATIENCE):
    """Returns what `event()` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = event()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"not within {seconds} s: {what}")
        time.sleep(0.005)


#: Editors that run now.
editors = []


def limit_time(seconds):
    """Ends the test after `seconds`, also where it waits for an editor that hangs."""

    def late(*_):
        for editor in editors:
            editor.kill()
        raise Timeout(f"the test takes longer than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)


class Timed:
    """A test that ends within `seconds`, and then closes what it opened."""

    seconds = 90

    def setUp(self):
        limit_time(self.seconds)
        self.addCleanup(limit_time, 0)

    def closing(self, thing):
        self.addCleanup(thing.close)
        return thing


def needs(path, name):
    """Skips a test class whose program was not installed, or fails it where that is asked for."""

    def decide(case):
        if Path(path).exists():
            return case
        why = f"{name} is not installed (tests/editors/install {name})"
        if not REQUIRED:
            return unittest.skip(why)(case)

        def fail(cls):
            raise AssertionError(why)

        case.setUpClass = classmethod(fail)
        return case

    return decide


class Desk:
    """Folders and environment of one editor, gone with `close`."""

    def __init__(self, files=None, settings=None):
        self.folder = Path(tempfile.mkdtemp(prefix="pairwright-"))
        self.home = self.folder / "home"
        self.workspace = self.folder / "workspace"
        self.log = self.folder / "wire.jsonl"
        self.programs = self.folder / "bin"
        for folder in (self.home, self.workspace / ".git", self.programs):
            folder.mkdir(parents=True)
        for name, text in (files or {}).items():
            path = self.workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.set_user_settings(settings or {})
        # `pairwright` on PATH, as users have it, with the wire tapped.
        wrapper = self.programs / "pairwright"
        wrapper.write_text(
            "#!/bin/sh\n"
            f'case "${{1-lsp}}" in lsp | --stdio) exec python3 {HERE}/wire.py {self.log} {SERVER} "$@" ;; esac\n'
            f'exec {SERVER} "$@"\n'
        )
        wrapper.chmod(0o755)

    def set_user_settings(self, settings):
        """Writes the user's own settings file."""
        folder = self.home / ".config/pairwright"
        folder.mkdir(parents=True, exist_ok=True)
        lines = []

        def table(values, path):
            flat = {k: v for k, v in values.items() if not isinstance(v, dict)}
            if flat and path:
                lines.append(f"[{path}]")
            lines.extend(f"{k} = {json.dumps(v)}" for k, v in flat.items())
            for key, value in values.items():
                if isinstance(value, dict):
                    table(value, f"{path}.{key}" if path else key)

        table(settings, "")
        (folder / "config.toml").write_text("\n".join(lines) + "\n")

    def environment(self, **more):
        keep = {k: os.environ[k] for k in ("PATH", "LANG", "TERM") if k in os.environ}
        return {
            **keep,
            "PATH": f"{self.programs}:{keep.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".local/state"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            **more,
        }

    def wire(self):
        """All that went over the wire so far."""
        if not self.log.exists():
            return []
        entries = []
        for line in self.log.read_text().split("\n"):
            if line:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    break  # Half written.
        return entries

    def sent(self, method, who="editor"):
        """The parameters of all messages `method` from the editor (or the server)."""
        return [
            entry["message"].get("params")
            for entry in self.wire()
            if entry.get("from") == who and entry["message"].get("method") == method
        ]

    def answers(self, method, who="editor"):
        """The answers to all requests `method` of the editor (or the server), in the order they
        were given."""
        ids = {
            entry["message"]["id"]
            for entry in self.wire()
            if entry.get("from") == who and entry["message"].get("method") == method
        }
        other = "server" if who == "editor" else "editor"
        return [
            entry["message"]
            for entry in self.wire()
            if entry.get("from") == other
            and "method" not in entry["message"]
            and entry["message"].get("id") in ids
        ]

    def commands(self, name):
        """The arguments of all commands `name` that the editor had the server run."""
        return [p["arguments"] for p in self.sent("workspace/executeCommand") if p["command"] == name]

    def broken(self):
        return [entry for entry in self.wire() if "broken" in entry]

    def server_pids(self):
        return [entry["pid"] for entry in self.wire() if "pid" in entry]

    def stop_server(self):
        """It answers nothing from now on."""
        os.kill(self.server_pids()[-1], signal.SIGSTOP)

    def kill_server(self):
        os.kill(self.server_pids()[-1], signal.SIGKILL)

    def cut_editor_off(self):
        """The server lives, but what the editor writes breaks its pipe."""
        entries = [entry for entry in self.wire() if "wire" in entry]
        os.kill(entries[-1]["wire"], signal.SIGUSR1)

    def wait_ready(self, ask=None):
        """Waits until the server has learnt the workspace. It says so to editors that announce
        that they listen; of others it is asked: `ask()` sends `pairwright/status/get`."""
        if ask is None:
            until(
                lambda: any(not p["busy"] for p in self.sent("didChangeStatus", "server")),
                "the server says that it is ready",
            )
            return

        def is_ready():
            ask()
            status = (self.answers("pairwright/status/get") or [{}])[-1].get("result")
            return status and not status["busy"] and status["kind"] == "Normal"

        until(is_ready, "the server answers that it is ready")

    def speaks_acp(self, command):
        """Whether a program answers as an agent of the Agent Client Protocol does."""
        params = {"protocolVersion": 1, "clientCapabilities": {}}
        ask = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        done = subprocess.run(
            command,
            cwd=self.workspace,
            env=self.environment(),
            input=json.dumps(ask) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        return json.loads(done.stdout.splitlines()[0])["result"]["protocolVersion"] == 1

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Terminal:
    """A program in a terminal, by tmux."""

    def __init__(self, name, command, desk, **environment):
        self.tmux = ["tmux", "-L", f"{name}-{os.getpid()}", "-f", "/dev/null"]
        subprocess.run(
            [*self.tmux, "new-session", "-d", "-x", "100", "-y", "24", "-c", desk.workspace, "--", *command],
            env=desk.environment(TERM="xterm-256color", **environment),
            check=True,
        )

    def screen(self):
        done = subprocess.run([*self.tmux, "capture-pane", "-p"], capture_output=True, text=True)
        return done.stdout

    def keys(self, *names):
        subprocess.run([*self.tmux, "send-keys", *names], check=True)

    def type(self, text):
        subprocess.run([*self.tmux, "send-keys", "-l", text], check=True)

    def wait_for(self, text, seconds=PATIENCE):
        try:
            return until(lambda: text in self.screen() and self.screen(), repr(text), seconds)
        except Timeout as late:
            raise Timeout(f"{late}; on screen is:\n{self.screen()}") from None

    def save_screen(self, name):
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        (ARTIFACTS / f"{name}.txt").write_text(self.screen())

    def close(self):
        subprocess.run([*self.tmux, "kill-server"], stderr=subprocess.DEVNULL, check=False)
