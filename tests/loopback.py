"""HTTP servers on loopback that answer for the length of a block."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback:
    """A context manager. It has its port from the start, and answers within the block."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], server: type[ThreadingHTTPServer] = ThreadingHTTPServer):
        self._server = server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Metadata(Loopback):
    """What an EC2 machine tells itself (IMDSv2). `goes` is the time of its end."""

    def __init__(self):
        self.goes = None
        told = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_PUT(self):
                self.say(200 if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else 400, "a token")

            def do_GET(self):
                if self.headers["X-aws-ec2-metadata-token"] != "a token":
                    self.say(401, "")
                elif told.goes is None or self.path != "/latest/meta-data/spot/instance-action":
                    self.say(404, "")
                else:
                    self.say(200, json.dumps({"action": "terminate", "time": told.goes}))

            def say(self, status, text):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

        super().__init__(Handler)

    def ends_in(self, seconds):
        self.goes = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
