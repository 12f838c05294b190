"""Real small bug fixes, made again by a task whose model knows the answer.

    python tests/fixes/run.py target/debug/pairwright [PACKAGE...]

Each case of cases.toml is a release of a published package that mends a bug, and the release before
it. The workspace is the older release with the newer one's tests. A scripted model drives the whole
way: it searches, reads, sees the tests fail in the sandbox, edits, sees them pass, and finishes; then
all hunks are accepted. The same model with its last edit spoilt must not get there.

Releases are downloaded below target/ with pip. Exits with 1 when a case fails.
"""

import difflib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
import traceback
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "support"))

from scripted_model import ChatModel, call  # noqa: E402

KEPT = HERE.parents[1] / "target/fixes"
#: Seconds for one download or one task.
PATIENCE = 300
#: What the sandbox has, too.
PYTHON = "/usr/bin/python3"
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
#: Lines around a change that are quoted with it, to begin with.
CONTEXT = 2


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run(command, check=True, timeout=PATIENCE, env=environment)


def release(package, version):
    """The unpacked sources of a release."""
    folder = KEPT / f"{package}-{version}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=KEPT) as fresh:
        pip("download", "--no-deps", "--no-binary", ":all:", "-d", fresh, f"{package}=={version}")
        (archive,) = pathlib.Path(fresh).glob("*.tar.gz")
        unpacked = pathlib.Path(fresh) / "unpacked"
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        (inner,) = unpacked.iterdir()
        inner.rename(folder)
    return folder


def pytest():
    """A folder with pytest and what it needs."""
    folder = KEPT / "pytest"
    if not folder.exists():
        pip("install", "--no-compile", "--target", folder, "-r", HERE / "requirements.txt")
    return folder


def edits(old, new):
    """What turns the text `old` into `new`, as pairs of a text that stands in it once and another."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for group in matcher.get_grouped_opcodes(CONTEXT):
        start, end = group[0][1], group[-1][2]
        to, until = group[0][3], group[-1][4]
        while old.count("".join(before[start:end])) > 1 and (start or end < len(before)):
            # What surrounds a change is the same in both.
            if start and to and before[start - 1] == after[to - 1]:
                start, to = start - 1, to - 1
            elif end < len(before) and until < len(after) and before[end] == after[until]:
                end, until = end + 1, until + 1
            else:
                break
        yield "".join(before[start:end]), "".join(after[to:until])


class Oracle:
    """The model's side of one fix: answers by how far the conversation is."""

    def __init__(self, case, changes, spoilt):
        command = " ".join(["PYTHONPATH=" + case["path"], "python3", *PYTEST, *case["failing"]])
        made = [
            {"path": path, "oldString": was, "newString": now}
            for path, (old, new) in changes.items()
            for was, now in edits(old, new)
        ]
        if spoilt:
            # As if the model had seen where, but not what.
            vital = made[case["vital"]]
            vital["newString"] = vital["oldString"] + "# Here?\n"
        self.steps = [
            [call("search", query=case["prompt"])],
            [call("read_file", path=path) for path in changes],
            [call("run", command=command)],
            [call("edit", **arguments) for arguments in made],
            [call("run", command=command)],
        ]

    def __call__(self, body, _):
        done = sum(message["role"] == "assistant" for message in body["messages"])
        if done < len(self.steps):
            return self.steps[done]
        passed = "exit code 0" in body["messages"][-1]["content"]
        return [call("finish", summary="The fix is made.", succeeded=passed)]


class Attempt:
    """A workspace, a home, and a task in them."""

    def __init__(self, program, case, spoilt=False):
        self.program, self.case = program, case
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pairwright-"))
        self.root = self.folder / case["package"]
        old, new = (release(case["package"], case[which]) for which in ("old", "new"))
        shutil.copytree(old, self.root)
        for path in case["tests"]:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(new / path, self.root / path)
        # Where `python -m` finds it and nobody else looks.
        for part in pytest().iterdir():
            if not (self.root / part.name).exists():
                (shutil.copytree if part.is_dir() else shutil.copy)(part, self.root / part.name)
        ignored = "".join(f"/{part.name}\n" for part in pytest().iterdir())
        (self.root / ".gitignore").write_text(ignored)
        self.changes = {path: ((old / path).read_text(), (new / path).read_text()) for path in case["sources"]}
        self.model = ChatModel(Oracle(case, self.changes, spoilt))
        config = self.folder / ".config/pairwright/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f"[models.agent]\nurl = '{self.model.url}'\nmodel = 'script'\n")

    def command(self, *arguments):
        environment = {
            "HOME": str(self.folder),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PAIRWRIGHT_WORKSPACE_TRUSTED": json.dumps([str(self.folder)]),
        }
        return [self.program, *arguments], {"cwd": self.root, "env": environment, "text": True}

    def task(self):
        """Runs the task to its end; returns its events."""
        command, options = self.command("task", "--json", self.case["prompt"])
        events = []
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1, **options
        ) as running:
            watchdog = threading.Timer(PATIENCE, running.kill)
            watchdog.start()
            for line in running.stdout:
                events.append(json.loads(line))
                if events[-1]["kind"] == "approval":
                    answer = {"approval": events[-1]["approval"], "decision": "yes", "scope": "once"}
                    running.stdin.write(json.dumps(answer) + "\n")
                    running.stdin.flush()
            watchdog.cancel()
        assert not self.model.wrong, self.model.wrong
        return events

    def accept(self, task):
        command, options = self.command("task", "--accept", task)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)

    def passes(self):
        """Whether the tests that the fix is about pass on this machine."""
        environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": self.case["path"]}
        command = [PYTHON, *PYTEST, *self.case["failing"]]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True)
        assert done.returncode in (0, 1), done.stdout.decode()
        return done.returncode == 0

    def texts(self):
        return {path: (self.root / path).read_text() for path in self.changes}

    def close(self):
        self.model.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def results(events, tool):
    return [event["text"] for event in events if event["kind"] == "tool_result" and event["tool"] == tool]


def makes_it(attempt):
    """The whole way; returns whether the search named a file of the fix."""
    before = attempt.texts()
    assert not attempt.passes(), "the tests pass before the fix"
    events = attempt.task()
    red, green = results(events, "run")
    assert "exit code 0" not in red and "exit code 0" in green, (red, green)
    assert events[-1]["kind"] == "done" and events[-1]["reason"] == "succeeded", events[-1]
    assert attempt.texts() == before, "files were changed before anybody accepted"
    attempt.accept(events[0]["session"])
    expected = {path: new for path, (_, new) in attempt.changes.items()}
    assert attempt.texts() == expected, "what was accepted is not the fix"
    assert attempt.passes(), "the tests fail after the fix"
    (found,) = results(events, "search")
    return any(path in found for path in attempt.changes)


def does_not(attempt):
    """With a spoilt edit the tests stay red, in the sandbox and here."""
    events = attempt.task()
    assert "exit code 0" not in results(events, "run")[-1]
    assert events[-1]["reason"] != "succeeded", events[-1]
    attempt.accept(events[0]["session"])
    assert not attempt.passes(), "a spoilt fix passes"


def passes(program, case):
    """Makes the fix, and fails to with a spoilt edit; prints which; returns whether both, and whether
    the search named a file of the fix."""
    name = f"{case['package']} {case['old']} → {case['new']}"
    attempts = []
    try:
        attempts.append(Attempt(program, case))
        found = makes_it(attempts[-1])
        attempts.append(Attempt(program, case, spoilt=True))
        does_not(attempts[-1])
    except Exception:
        print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        return False, False
    finally:
        for attempt in attempts:
            attempt.close()
    print(f"ok     {name}{'' if found else ' (not found by the search)'}", flush=True)
    return True, found


def main():
    program, *only = sys.argv[1:]
    program = str(pathlib.Path(program).resolve())
    KEPT.mkdir(parents=True, exist_ok=True)
    unsaid = {"path": ".", "vital": -1}
    cases = [{**unsaid, **case} for case in tomllib.loads((HERE / "cases.toml").read_text())["case"]]
    cases = [case for case in cases if not only or case["package"] in only]
    releases = {(case["package"], case[which]) for case in cases for which in ("old", "new")}
    with ThreadPoolExecutor(4) as downloads:
        pytest()
        list(downloads.map(lambda of: release(*of), releases))
    with ThreadPoolExecutor(2) as workers:
        outcomes = list(workers.map(lambda case: passes(program, case), cases))
    made, found = (sum(which) for which in zip(*outcomes, strict=True))
    print(f"{made} of {len(cases)} fixes made, {found} of them found by the search")
    # A question in a user's words need not lead to the file; most should.
    return 0 if made == len(cases) and 2 * found >= made else 1


if __name__ == "__main__":
    sys.exit(main())
