"""A proxy in front of a real S3 server that spoils some of its answers, at random and reproducibly."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from loopback import Loopback

from s3_server import S3Server

REFUSALS = {  # S3's own words and status
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "ExpiredToken": (400, "The provided token has expired."),
    "AccessDenied": (403, "Access Denied"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "SlowDown": (503, "Please reduce your request rate."),
}
PASSING = ("InternalError", "SlowDown", "RequestTimeTooSkewed", "ExpiredToken", "reset", "slow", "cut", "lost answer")


class Faulty(Loopback):
    """A context manager. A share `rate` of all requests meets one of `kinds`; `seen` counts what happened, and `met`
    the faults by command and first folder in the bucket. Only requests whose path has `below` in it meet any; with
    `first`, the first of each command and folder always does.

    `conditions` is what becomes of If-None-Match: "kept", "refused", or "ignored", as by servers that do not know it.
    """

    def __init__(
        self,
        endpoint: str,
        rate: float,
        kinds: tuple[str, ...] = PASSING,
        seed: int = 0,
        conditions: str = "kept",
        below: str = "",
        first: bool = False,
    ):
        self.target, self.rate, self.kinds, self.conditions = urlsplit(endpoint), rate, kinds, conditions
        self.below, self.first, self._known = below, first, set[tuple[str, str]]()
        self._client = S3Server(endpoint).client() if conditions == "ignored" else None
        self.seen: Counter[str] = Counter()
        self.met: Counter[tuple[str, str]] = Counter()
        self._draw, self._lock = random.Random(seed), threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def answer(self):
                body = self.body()
                kind = proxy.kind(self.command, self.path, conditional="If-None-Match" in self.headers)
                if kind in REFUSALS:
                    status, words = REFUSALS[kind]
                    text = f"<Error><Code>{kind}</Code><Message>{words}</Message></Error>".encode()
                    self.send(status, [("Content-Type", "application/xml")], text)
                elif kind == "reset":
                    self.reset()
                else:
                    if kind == "slow":
                        time.sleep(0.7)
                    status, headers, data = proxy.forward(self.command, self.path, self.headers, body)
                    if kind == "lost answer":  # the server has done it
                        self.reset()
                    else:
                        self.send(status, headers, data, cut=kind == "cut")

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def send(self, status, headers, data, cut=False):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if not any(name.lower() == "content-length" for name, _ in headers):
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self.close_connection = True

            def reset(self):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a connection that was reset on purpose

        super().__init__(Handler, Server)

    @property
    def faults(self):
        return sum(count for kind, count in self.seen.items() if kind != "sound")

    def kind(self, command, path, conditional):
        place = command, _folder(path)
        with self._lock:
            drawn = self._draw.random() < self.rate or (self.first and place not in self._known)
            self._known.add(place)
            # In turn, so that a few faults are of every kind.
            kind = self.kinds[self.faults % len(self.kinds)] if drawn and self.below in unquote(path) else "sound"
            self.met[place] += kind != "sound"
            kind = "NotImplemented" if conditional and self.conditions == "refused" else kind
            self.seen[kind] += 1
            return kind

    def forward(self, method, path, headers, body):
        """The Host header stays the proxy's: the client signed it."""
        if "If-None-Match" in headers and self.conditions == "ignored":
            return self.overwrite(path, body)
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=60)
        try:
            kept = {n: v for n, v in headers.items() if n.lower() not in ("transfer-encoding", "connection", "expect")}
            kept["Content-Length"] = str(len(body))
            connection.request(method, path, body, kept)
            response = connection.getresponse()
            dropped = ("transfer-encoding", "connection")
            kept_back = [(n, v) for n, v in response.getheaders() if n.lower() not in dropped]
            return response.status, kept_back, response.read()
        finally:
            connection.close()

    def overwrite(self, path, body):
        """A put whose condition was signed is put again without it, by a client of our own. Some take their time."""
        with self._lock:
            self.seen["ignored"] += 1
            wait = self._draw.uniform(0, 0.4)
        time.sleep(wait)
        bucket, _, key = unquote(path.partition("?")[0]).lstrip("/").partition("/")
        stored = self._client.put_object(Bucket=bucket, Key=key, Body=body)
        return 200, [("ETag", stored["ETag"])], b""


def _folder(path):
    """The first folder below the bucket, of an object or of what is listed."""
    asked = urlsplit(path)
    key = unquote(asked.path).lstrip("/").partition("/")[2] or dict(parse_qsl(asked.query)).get("prefix", "")
    return key.partition("/")[0]
