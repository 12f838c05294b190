"""A chat model that follows a script: OpenAI's chat completions, streamed piece by piece.

Like `model`, it is reached over a socket as any endpoint is. It checks what it is asked: each call
of a tool has one result.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from desk import PATIENCE


def call(tool, **arguments):
    """A piece of an answer: the model wants a tool run."""
    return {"name": tool, "arguments": json.dumps(arguments)}


class Gate:
    """A piece of an answer that says nothing until it is opened. `reached` once the answer is there."""

    def __init__(self):
        self.reached = threading.Event()
        self.open = threading.Event()


class ChatModel:
    """`script(question, n)` gives the pieces of the answer number `n`, from 0: texts, `call`s and
    `Gate`s; `question` is what the user or a tool said last."""

    def __init__(self, script):
        self.script = script
        #: The messages of every request.
        self.asked = []
        #: Requests whose connection was closed before their answer was over.
        self.dropped = 0
        #: What was wrong with requests.
        self.wrong = []
        lock = threading.Lock()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                body = b'{"data":[{"id":"script"}]}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages = body["messages"]
                with lock:
                    n = len(model.asked)
                    model.asked.append(messages)
                    model.check(messages)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    self.answer(model.script(messages[-1].get("content") or "", n))
                except OSError:
                    model.dropped += 1
                    self.close_connection = True

            def answer(self, pieces):
                n_calls = 0
                for piece in pieces:
                    if isinstance(piece, Gate):
                        self.wait(piece)
                    elif isinstance(piece, dict):
                        told = {"index": n_calls, "id": f"c{n_calls}", "type": "function", "function": piece}
                        self.event({"delta": {"tool_calls": [told]}})
                        n_calls += 1
                    else:
                        self.event({"delta": {"content": piece}})
                self.event({"delta": {}, "finish_reason": "tool_calls" if n_calls else "stop"})
                self.send(b"data: [DONE]\n\n")
                self.send(b"")

            def wait(self, gate):
                gate.reached.set()
                # A comment now and then, to hear that nobody listens any more.
                for _ in range(PATIENCE * 20):
                    if gate.open.wait(0.05):
                        return
                    self.send(b": waits\n\n")

            def event(self, choice):
                data = {"choices": [{"index": 0, **choice}]}
                self.send(f"data: {json.dumps(data)}\n\n".encode())

            def send(self, data):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # Connections are closed when answers are stopped.

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def check(self, messages):
        open_calls = []
        for message in messages:
            if message["role"] == "tool":
                if message["tool_call_id"] not in open_calls:
                    self.wrong.append(f"a result without its call: {message}")
                else:
                    open_calls.remove(message["tool_call_id"])
            elif open_calls:
                self.wrong.append(f"calls without results: {open_calls}")
            open_calls += [c["id"] for c in message.get("tool_calls") or []]

    def settings(self):
        """Settings of Pairwright that name this server for chat and tasks."""
        endpoint = {"url": self.url, "model": "script", "api": "openai"}
        return {"local": {"enabled": False}, "models": {"chat": endpoint, "agent": dict(endpoint)}}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
