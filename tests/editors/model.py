"""A model server that follows a script: OpenAI's completions and chats, streamed.

Not a mock of ours: Pairwright reaches it over a socket like any other endpoint. It answers the
question Pairwright probes endpoints with as a model would that was trained to fill in.
"""

import itertools
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
    before it is sent. Both may be changed at any time."""

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


class ChatModel(Server):
    """Chats by a script: the nth question is answered by `turns[n]`, later ones by the last.

    A turn is a list of what is sent, in order: a text as a piece of the answer, a `call`, or an
    event of `threading`, which is waited for."""

    def __init__(self, *turns):
        self.turns = turns
        self.asked = []
        #: Calls of tools that were asked on without exactly one result.
        self.unanswered = []
        #: Answers that the other side did not hear to their end.
        self.n_cut = 0
        model = self

        class Chats(Handler):
            def do_POST(self):
                body = self.body()
                turn = model.turns[min(len(model.asked), len(model.turns) - 1)]
                model.asked.append(body)
                model.unanswered.extend(unanswered(body["messages"]))
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.answer(turn)
                except OSError:
                    model.n_cut += 1

            def answer(self, turn):
                n_calls = 0
                for part in turn:
                    if isinstance(part, threading.Event):
                        # Whether the other side is still there is found out by writing to it.
                        while not part.wait(0.05):
                            self.chunk(": waiting\n\n")
                    elif isinstance(part, str):
                        self.event(delta={"content": part})
                    else:
                        self.event(delta={"tool_calls": [{"index": n_calls, **part}]})
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
        return {"models": {"chat": self.endpoint(), "agent": self.endpoint()}}


_ids = itertools.count()


def call(name, **arguments):
    """A call of a tool, in a turn of `ChatModel`."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_{next(_ids)}", "type": "function", "function": function}


def unanswered(messages):
    """Calls of tools that have not exactly one result."""
    results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    calls = [call["id"] for message in messages for call in message.get("tool_calls") or []]
    return [call for call in calls if results.count(call) != 1]
