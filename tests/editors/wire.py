"""Stands between an editor and the server and writes down every message.

    wire.py LOG PROGRAM ARGUMENT...

LOG gets one JSON object a line: first {"pid": …} of the server, then {"from": "editor" | "server",
"at": seconds, "message": …} in the order of arrival. Bytes are passed on as they come; what is not
framed as the protocol wants it is logged as {"from": …, "broken": …}.

After SIGUSR1 the editor is not heard any more: what it writes breaks its pipe, as it does for a
moment when a server dies.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        self.rest += data
        while True:
            head, separator, body = self.rest.partition(b"\r\n\r\n")
            if not separator:
                return
            fields = dict(line.split(b":", 1) for line in head.split(b"\r\n"))
            length = int(fields[b"Content-Length"])
            if len(body) < length:
                return
            self.rest = body[length:]
            yield json.loads(body[:length])


def pass_on(source, sink, who, log, lock, is_cut=lambda: False):
    frames = Frames()
    while data := source.read1(1 << 16):
        at = time.monotonic()
        try:
            entries = [{"from": who, "at": at, "message": m} for m in frames.feed(data)]
        except (ValueError, KeyError):
            entries = [{"from": who, "at": at, "broken": repr(data)}]
        with lock:
            for entry in entries:
                log.write(json.dumps(entry) + "\n")
            log.flush()
        try:
            sink.write(data)
            sink.flush()
        except OSError:
            break
    if is_cut():
        return
    try:
        sink.close()
    except OSError:
        pass


def hear_editor(server, log, lock):
    is_deaf = threading.Event()

    def go_deaf(*_):
        is_deaf.set()
        # Editors that give a pipe and no socket are not asked for this.
        with socket.socket(fileno=os.dup(0)) as stdin:
            stdin.shutdown(socket.SHUT_RD)

    def listen():
        pass_on(sys.stdin.buffer, server.stdin, "editor", log, lock, is_deaf.is_set)

    signal.signal(signal.SIGUSR1, go_deaf)
    threading.Thread(target=listen, daemon=True).start()


def main():
    path, *command = sys.argv[1:]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lock = threading.Lock()
    with open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps({"pid": server.pid, "wire": os.getpid()}) + "\n")
        log.flush()
        hear_editor(server, log, lock)
        pass_on(server.stdout, sys.stdout.buffer, "server", log, lock)
        code = server.wait()
    # The other thread may still wait for the editor; it must not keep the process.
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
