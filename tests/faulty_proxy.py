"""A proxy before an S3 server, which does what networks and storages do: cut, refuse, lose replies."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

PASS, BUSY, CUT, LOST, DENIED, LACKING = "pass", "busy", "cut", "lost", "denied", "lacking"
"""As it is; 503 SlowDown; a connection that ends within the body; done, but the reply is lost; 403; 501."""
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>told by the proxy</Message></Error>"
_CODES = {BUSY: (503, "SlowDown"), DENIED: (403, "AccessDenied"), LACKING: (501, "NotImplemented")}


class Asked(NamedTuple):
    """A request that arrives."""

    number: int
    method: str
    path: str
    conditional: bool


class Proxy:
    """Passes requests on to a server on this machine; `fault` says what happens to each."""

    def __init__(self, port: int) -> None:
        self.fault: Callable[[Asked], str] = lambda asked: PASS
        self.drops_conditions = False
        self.asked: list[Asked] = []
        self._port = port
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes: the second would wait

            def handle_any(self) -> None:
                proxy.answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, client: BaseHTTPRequestHandler) -> None:
        body = _body(client)
        conditional = bool({"If-None-Match", "If-Match"} & set(client.headers)) and client.command == "PUT"
        with self._lock:
            asked = Asked(len(self.asked), client.command, client.path, conditional)
            self.asked.append(asked)
            fault = self.fault(asked)
        if fault in _CODES:
            status, code = _CODES[fault]
            _reply(client, status, {"Content-Type": "application/xml"}, _ERROR.format(code).encode())
            return
        status, headers, got = self._passed_on(client, body)
        if fault == LOST:
            client.close_connection = True
            client.connection.close()
        else:
            _reply(client, status, headers, got, cut=fault == CUT)

    def _passed_on(self, client: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        skipped = {"connection", "transfer-encoding", "content-length", "expect"}
        if self.drops_conditions:
            skipped |= {"if-none-match", "if-match"}
        headers = {name: value for name, value in client.headers.items() if name.lower() not in skipped}
        server = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            server.request(client.command, client.path, body, headers | {"Content-Length": str(len(body))})
            reply = server.getresponse()
            got = reply.read()
            kept = {
                n: v for n, v in reply.getheaders() if n.lower() not in ("connection", "transfer-encoding")
            }
            return reply.status, kept, got
        finally:
            server.close()


def _body(client: BaseHTTPRequestHandler) -> bytes:
    if client.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return client.rfile.read(int(client.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(client.rfile.readline().split(b";")[0], 16):
        pieces.append(client.rfile.read(size))
        client.rfile.readline()
    client.rfile.readline()
    return b"".join(pieces)


def _reply(
    client: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, cut: bool = False
) -> None:
    try:
        client.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                client.send_header(name, value)
        length = headers.get("Content-Length", headers.get("content-length", str(len(body))))
        client.send_header("Content-Length", length if client.command == "HEAD" else str(len(body)))
        client.end_headers()
        client.wfile.write(body[: len(body) // 2] if cut else body)
        client.wfile.flush()
    except OSError:
        client.close_connection = True
    if cut:
        client.close_connection = True
        client.connection.close()
