"""A stand-in for the providers of push: an HTTP server that keeps what it is sent and answers as a test says."""

import http.server
import queue
import threading
import time


class StandIn:
    """Answers 200 unless `answers` (a list of (status, headers, body), used up from the front) says otherwise."""

    def __init__(self):
        self.requests = queue.Queue()
        self.answers = []
        self.hold = threading.Event()
        self.hold.set()
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stand_in.requests.put((self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.time()))
                stand_in.hold.wait()
                answers = stand_in.answers
                status, headers, answer = stand_in.answer_for(self.path) or (
                    answers.pop(0) if answers else (200, {}, b"{}")
                )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer_for(self, path):
        """A fixed answer for some paths; `None` for the list's."""
        return

    def next(self, limit=15):
        """The next request: (path, headers, body, when)."""
        return self.requests.get(timeout=limit)

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
