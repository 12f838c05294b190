"""Stands between an editor and the server and writes down every message.

    wire.py LOG PROGRAM ARGUMENT...

LOG gets one JSON object a line: first {"pid": …} of the server, then {"from": "editor" | "server",
"at": seconds, "message": …} in the order of arrival. Bytes are passed on as they come; what is not
framed as the protocol wants it is logged as {"from": …, "broken": …}.
"""

import json
import os
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


def pass_on(source, sink, who, log, lock):
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
    try:
        sink.close()
    except OSError:
        pass


def main():
    path, *command = sys.argv[1:]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lock = threading.Lock()
    with open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps({"pid": server.pid}) + "\n")
        log.flush()
        arguments = (sys.stdin.buffer, server.stdin, "editor", log, lock)
        threading.Thread(target=pass_on, args=arguments, daemon=True).start()
        pass_on(server.stdout, sys.stdout.buffer, "server", log, lock)
        code = server.wait()
    # The other thread may still wait for the editor; it must not keep the process.
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
