"""A model server that follows a script, for tests whose other half is not ours."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model:
    """A model server that follows a script: OpenAI's chat completions, streamed.

    `script(body)` gives the text of a turn and its tool calls as (name, arguments), or an event to
    wait for before the answer ends.
    """

    def __init__(self):
        self.script = lambda body: ("", [])
        self.asked = []
        self.gone = threading.Event()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.asked.append(body)
                text, then = model.script(body)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                calls = then if isinstance(then, list) else []
                self.event({"content": text})
                if not isinstance(then, list):
                    # The client closes the connection when the turn is cancelled.
                    self.connection.settimeout(30)
                    try:
                        is_gone = self.rfile.read(1) == b""
                    except ConnectionResetError:
                        is_gone = True
                    if is_gone:
                        model.gone.set()
                    return
                for nth, (name, arguments) in enumerate(calls):
                    call = {"index": nth, "id": f"call_{len(model.asked)}_{nth}"}
                    call["function"] = {"name": name, "arguments": json.dumps(arguments)}
                    self.event({"tool_calls": [call]})
                self.event({}, "tool_calls" if calls else "stop")
                self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def event(self, delta, reason=None):
                choice = {"index": 0, "delta": delta, "finish_reason": reason}
                self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
                self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
