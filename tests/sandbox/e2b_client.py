"""The local sandbox service, as E2B's own unmodified client sees it.

    pip install e2b==VERSION
    python tests/sandbox/e2b_client.py target/debug/pairwright

Starts `pairwright sandboxd`, runs every check below, and exits with 1 when one fails.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback


def start(program):
    """Starts the service; returns it and its address."""
    keys = tempfile.mkdtemp()
    service = subprocess.Popen(
        [program, "sandboxd", "--listen", "127.0.0.1:0", "--key-file", f"{keys}/key"],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = service.stdout.readline()
    address = line.removeprefix("listening on ").strip()
    with open(f"{keys}/key") as key:
        os.environ.update(
            E2B_API_KEY=key.read().strip(), E2B_API_URL=address, E2B_SANDBOX_URL=address
        )
    return service


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def commands(sandbox):
    done = sandbox.commands.run("echo out; echo err >&2")
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 0), done


def exit_code(sandbox):
    from e2b import CommandExitException

    error = raises(CommandExitException, lambda: sandbox.commands.run("echo no >&2; exit 3"))
    assert (error.exit_code, error.stderr) == (3, "no\n"), error


def environment_and_directory(sandbox):
    done = sandbox.commands.run("echo $A; pwd", envs={"A": "given"}, cwd="/tmp")
    assert done.stdout == "given\n/tmp\n", done


def streaming(sandbox):
    pieces = []
    sandbox.commands.run("for n in 1 2 3; do echo $n; done", on_stdout=pieces.append)
    assert "".join(pieces) == "1\n2\n3\n", pieces


def background_input_and_kill(sandbox):
    handle = sandbox.commands.run("cat; sleep 300", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "typed\n")
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    assert sandbox.commands.kill(handle.pid)
    raises(Exception, handle.wait)
    assert handle.pid not in [process.pid for process in sandbox.commands.list()]
    assert not sandbox.commands.kill(99999)


def reattach(sandbox):
    handle = sandbox.commands.run("sleep 1; echo later", background=True)
    handle.disconnect()
    assert sandbox.commands.connect(handle.pid).wait().stdout == "later\n"


def timeout(sandbox):
    from e2b import TimeoutException

    raises(TimeoutException, lambda: sandbox.commands.run("sleep 30", timeout=1))


def files(sandbox):
    sandbox.files.write("/home/user/a/b.txt", "text")
    sandbox.files.write("bytes", b"\x00\xff" * 100_000)
    assert sandbox.files.read("/home/user/a/b.txt") == "text"
    assert bytes(sandbox.files.read("bytes", format="bytes")) == b"\x00\xff" * 100_000
    assert sandbox.files.exists("a/b.txt") and not sandbox.files.exists("none")
    assert [entry.name for entry in sandbox.files.list("a")] == ["b.txt"]
    assert sandbox.files.make_dir("a/c") and not sandbox.files.make_dir("a/c")
    assert sandbox.files.rename("a/b.txt", "a/c/d.txt").name == "d.txt"
    sandbox.files.remove("a")
    assert not sandbox.files.exists("a")


def absent_file(sandbox):
    from e2b import NotFoundException

    raises(NotFoundException, lambda: sandbox.files.read("/none"))


def network(sandbox):
    done = sandbox.commands.run("getent hosts example.com || echo unresolved")
    assert done.stdout == "unresolved\n", done


def allowed_hosts(sandbox):
    import e2b

    make = getattr(e2b.Sandbox, "create", e2b.Sandbox)
    try:
        other = make(timeout=60, network={"allow_out": ["host.invalid"]})
    except TypeError:
        return  # Clients before 2.40 or so cannot ask for hosts.
    ask = (
        "python3 -c \"import http.client as h; c = h.HTTPConnection('127.0.0.1', 3128);"
        " c.request('GET', 'http://{0}/', headers={{'Host': '{0}'}});"
        " print(c.getresponse().status)\""
    )
    # Allowed and not there, not allowed, never allowed.
    for host, status in [("host.invalid", 502), ("b.invalid", 403), ("169.254.169.254", 403)]:
        done = other.commands.run(ask.format(host))
        assert done.stdout == f"{status}\n", (host, done)
    other.kill()


def lifetime(sandbox):
    assert sandbox.is_running()
    sandbox.set_timeout(120)
    assert sandbox.get_info().sandbox_id == sandbox.sandbox_id


def connecting(sandbox):
    from e2b import Sandbox

    sandbox.files.write("shared", "seen")
    assert Sandbox.connect(sandbox.sandbox_id).files.read("shared") == "seen"


def many_at_once(sandbox):
    said = {}

    def run(n):
        said[n] = sandbox.commands.run(f"echo {n}").stdout

    threads = [threading.Thread(target=run, args=(n,)) for n in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert said == {n: f"{n}\n" for n in range(20)}, said


def killed(sandbox):
    assert sandbox.kill()
    assert not sandbox.is_running()
    raises(Exception, lambda: sandbox.commands.run("true"))
    assert not sandbox.kill()


CHECKS = [
    commands, exit_code, environment_and_directory, streaming, background_input_and_kill,
    reattach, timeout, files, absent_file, network, allowed_hosts, lifetime, connecting, many_at_once, killed,
]  # fmt: skip


def main():
    service = start(sys.argv[1])
    failed = 0
    try:
        import e2b

        began = time.monotonic()
        make = getattr(e2b.Sandbox, "create", e2b.Sandbox)
        sandbox = make(timeout=60)
        print(f"created in {(time.monotonic() - began) * 1e3:.0f} ms")
        for check in CHECKS:
            began = time.monotonic()
            try:
                check(sandbox)
                word = "ok"
            except Exception:
                traceback.print_exc()
                word = "FAILED"
                failed += 1
            print(f"{check.__name__}: {word} ({(time.monotonic() - began) * 1e3:.0f} ms)")
    finally:
        service.terminate()
        service.wait()
    sys.exit(1 if failed else 0)


main()
