"""Model servers that follow a script, for tests whose other half is not ours: OpenAI's completions
and chats, streamed.

Not mocks of ours: Pairwright reaches them over a socket like any other endpoint. They check what
they are asked: each call of a tool has one result, before anybody else speaks.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or the end of an answer waits 40 ms for the other side to acknowledge its beginning.
    disable_nagle_algorithm = True

    def do_GET(self):
        self.reply("application/json", b'{"data":[{"id":"script"}]}')

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, content_type, data):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Answers on a port of this machine until it is closed."""

    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass  # Connections are reset when questions are taken back.

    def endpoint(self):
        """Settings of Pairwright that name this server."""
        return {"url": self.url, "model": "script", "api": "openai"}

    def close(self):
        self.shutdown()
        self.server_close()


class Model(Server):
    """`answer(prefix, suffix)` is called for each question and gives the text; `delay` seconds pass
    before it is sent. Both may be changed at any time. The question that Pairwright probes endpoints
    with is answered as by a model that was trained to fill in."""

    def __init__(self, answer, delay=0.0):
        self.answer = answer
        self.delay = delay
        self.asked = []
        model = self

        class Completions(Handler):
            def do_POST(self):
                body = self.body()
                prefix, suffix = body.get("prompt", ""), body.get("suffix", "")
                if prefix.endswith("a = [1, 2, "):
                    text = "7"
                else:
                    model.asked.append((prefix, suffix))
                    text = model.answer(prefix, suffix)
                    time.sleep(model.delay)
                event = {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}
                data = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
                try:
                    self.reply("text/event-stream", data.encode())
                except OSError:
                    pass  # The question was taken back.

        super().__init__(Completions)

    def settings(self):
        return {"models": {"complete": self.endpoint()}}


def call(tool, **arguments):
    """A piece of an answer: the model wants a tool run."""
    return {"name": tool, "arguments": json.dumps(arguments)}


def begin_call(tool, arguments):
    """A piece of an answer: a call whose arguments begin so, as text; `go_on` gives the rest."""
    return {"name": tool, "arguments": arguments}


def go_on(arguments):
    """A piece of an answer: more of the arguments of the call before."""
    return {"arguments": arguments}


class Gate:
    """A piece of an answer that says nothing until it is opened, or the other side has gone."""

    def __init__(self):
        self.open = threading.Event()


def in_turn(*answers):
    """A script that gives one answer after the other, and the last one from then on."""
    return lambda _, n: answers[min(n, len(answers) - 1)]


class ChatModel(Server):
    """`script(body, n)` gives the pieces of the answer number `n`, from 0: texts, `call`s and
    `Gate`s; `body` is what is asked. It may be changed at any time."""

    def __init__(self, script):
        self.script = script
        #: The bodies of all requests.
        self.asked = []
        #: What was wrong with them.
        self.wrong = []
        #: Answers that the other side did not hear to their end.
        self.n_cut = 0
        lock = threading.Lock()
        model = self

        class Chats(Handler):
            def do_POST(self):
                body = self.body()
                with lock:
                    n = len(model.asked)
                    model.asked.append(body)
                    model.wrong.extend(wrong_with(body["messages"]))
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.answer(model.script(body, n), n)
                except OSError:
                    with lock:
                        model.n_cut += 1
                    self.close_connection = True

            def answer(self, pieces, n):
                n_calls = 0
                for piece in pieces:
                    if isinstance(piece, Gate):
                        # Whether the other side is still there is found out by writing to it.
                        while not piece.open.wait(0.05):
                            self.chunk(": waiting\n\n")
                    elif isinstance(piece, str):
                        self.event(delta={"content": piece})
                    elif "name" not in piece:
                        self.event(delta={"tool_calls": [{"index": n_calls - 1, "function": piece}]})
                    else:
                        told = {"index": n_calls, "id": f"call_{n}_{n_calls}", "type": "function"}
                        self.event(delta={"tool_calls": [{**told, "function": piece}]})
                        n_calls += 1
                self.event(delta={}, finish_reason="tool_calls" if n_calls else "stop")
                usage = {"prompt_tokens": 100, "completion_tokens": 10}
                self.chunk(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n")
                self.chunk("data: [DONE]\n\n")
                self.chunk("")

            def event(self, **choice):
                event = {"choices": [{"index": 0, "finish_reason": None, **choice}]}
                self.chunk(f"data: {json.dumps(event)}\n\n")

            def chunk(self, text):
                data = text.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        super().__init__(Chats)

    def settings(self):
        return {"local": {"enabled": False}, "models": {"chat": self.endpoint(), "agent": self.endpoint()}}


def wrong_with(messages):
    """Calls of tools that have not exactly one result before anybody else speaks."""
    wrong, owed = [], []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] in owed:
                owed.remove(message["tool_call_id"])
            else:
                wrong.append(f"a result without its call: {message}")
        elif owed:
            wrong.append(f"calls without results: {owed}")
            owed = []
        owed = owed + [call["id"] for call in message.get("tool_calls") or []]
    return wrong + ([f"calls without results: {owed}"] if owed else [])
