"""A model server that follows a script: OpenAI's completions, streamed.

Not a mock of ours: Pairwright reaches it over a socket like any other endpoint. It answers the
question Pairwright probes endpoints with as a model would that was trained to fill in.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model:
    """`answer(prefix, suffix)` is called for each question and gives the text; `delay` seconds pass
    before it is sent. Both may be changed at any time."""

    def __init__(self, answer, delay=0.0):
        self.answer = answer
        self.delay = delay
        self.asked = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Or the end of an answer waits 40 ms for the other side to acknowledge its beginning.
            disable_nagle_algorithm = True

            def do_GET(self):
                self.reply("application/json", b'{"data":[{"id":"script"}]}')

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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

            def reply(self, content_type, data):
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # Connections are reset when questions are taken back.

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def settings(self):
        """Settings of Pairwright that name this server."""
        return {"models": {"complete": {"url": self.url, "model": "script", "api": "openai"}}}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
