"""A server of the OpenAI protocol as vLLM speaks it, and a faulty proxy to stand in front of any.

Both run in threads of the test's own process, on ports that the system gives them.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from PIL import Image

from pipeline.asking.tokens import TokenCounter
from pipeline.config import ModelSettings


@dataclass(frozen=True)
class Asked:
    """A request that has reached a server."""

    text: str
    """What stands after the images."""
    images: int
    body: Mapping[str, Any]
    number: int
    """Of all requests of this server."""


def reply(text: str, **given: Any) -> list[dict[str, Any]]:
    """Return the chunks of a reply, one token a word, as vLLM streams them."""
    tokens = [word if not n else f" {word}" for n, word in enumerate(text.split(" "))]
    usage = {"prompt_tokens": 10, "completion_tokens": len(tokens), "total_tokens": 10 + len(tokens)} | given
    chunks: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    for number, token in enumerate(tokens, 1):
        logprobs = {"content": [{"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
        is_last = number == len(tokens)
        chunks.append(
            {
                "delta": {"content": token},
                "logprobs": logprobs,
                "finish_reason": "stop" if is_last else None,
            }
        )
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    listed = [common | {"choices": [{"index": 0, **chunk}]} for chunk in chunks]
    return [*listed, common | {"choices": [], "usage": usage}]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.server.connections.discard(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # killed, or the client has gone
            super().handle()

    def answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status: int, message: str, **headers: str) -> None:
        self.answer(status, json.dumps({"error": {"message": message}}).encode(), **headers)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        self.server.owner.get(self)

    def do_POST(self) -> None:
        self.server.owner.post(self, self.body())


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, owner: object, port: int) -> None:
        self.owner = owner
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients leave, and servers are killed."""


class _Runs:
    """Listens in a thread, and can be killed with all its connections, and started again at its port."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._http: _Http | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        self._http = _Http(self, self.port)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """End it as kill -9 would: connections are reset."""
        http, self._http = self._http, None
        if http is None:
            return
        http.shutdown()
        http.server_close()
        for connection in list(http.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Behaviour:
    """What a server is and does."""

    model: str = "tiny"
    version: str = "0.32.0"
    context_tokens: int = 131_072
    most_images: int = 30
    key: str | None = None
    waiting: int = 0
    delay_s: float = 0.0
    cache: tuple[int, int] | None = (1000, 16)
    says: Callable[[Asked], Sequence[Mapping[str, Any]] | tuple[int, str]] = field(
        default_factory=lambda: lambda asked: reply("All is fine")
    )


class ProtocolServer(_Runs):
    """Speaks the protocol. `asked` are the requests that it got, `answered` counts its whole replies."""

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.asked: list[Asked] = []
        self.answered: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        super().__init__(port)

    def get(self, handler: _Handler) -> None:
        given, path = self.behaviour, handler.path
        if (
            path.startswith("/v1/")
            and given.key
            and handler.headers["Authorization"] != f"Bearer {given.key}"
        ):
            handler.fail(401, "Unauthorized")
        elif path == "/health":
            handler.answer(200, b"")
        elif path == "/version":
            handler.answer(200, json.dumps({"version": given.version}).encode())
        elif path == "/v1/models":
            listed = {"data": [{"id": given.model, "max_model_len": given.context_tokens}]}
            handler.answer(200, json.dumps(listed).encode())
        elif path == "/metrics":
            lines = [f'vllm:num_requests_waiting{{engine="0"}} {float(given.waiting)}']
            if given.cache:
                blocks, size = given.cache
                lines.append(f'vllm:cache_config_info{{block_size="{size}",num_gpu_blocks="{blocks}"}} 1.0')
            handler.answer(200, "\n".join(lines).encode(), "text/plain")
        else:
            handler.fail(404, "Not Found")

    def post(self, handler: _Handler, body: bytes) -> None:
        given = self.behaviour
        if given.key and handler.headers["Authorization"] != f"Bearer {given.key}":
            handler.fail(401, "Unauthorized")
            return
        read = json.loads(body)
        content = read["messages"][-1]["content"]
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        with self._lock:
            asked = Asked(content[-1]["text"], len(urls), read, len(self.asked))
            self.asked.append(asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self._reply(handler, asked, urls)
        finally:
            with self._lock:
                self.at_once -= 1

    def _reply(self, handler: _Handler, asked: Asked, urls: Sequence[str]) -> None:
        if asked.images > self.behaviour.most_images:
            handler.fail(400, f"At most {self.behaviour.most_images} image(s) may be provided in one prompt.")
            return
        try:
            for url in urls:
                _open(url)
        except (OSError, ValueError, SyntaxError) as error:
            handler.fail(400, f"cannot identify image file ({error})")
            return
        time.sleep(self.behaviour.delay_s)
        said = self.behaviour.says(asked)
        if isinstance(said, tuple):
            handler.fail(*said)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for chunk in said:
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        handler.wfile.write(b"data: [DONE]\n\n")
        handler.wfile.flush()
        handler.close_connection = True
        with self._lock:
            self.answered[asked.text] += 1


def _open(url: str) -> tuple[int, int]:
    """Return the size of an image that can be read to its end."""
    whole = (
        url.removeprefix("file://")
        if url.startswith("file://")
        else BytesIO(base64.b64decode(url.partition(",")[2]))
    )
    with Image.open(whole) as image:
        image.load()
        return image.size


def count_prompt(asked: Asked, settings: ModelSettings) -> int:
    """Return how many tokens a request has, by the same tokenizer that vLLM uses."""
    system, user = (message["content"] for message in asked.body["messages"])
    counter = TokenCounter(settings, system)
    if not asked.images:
        return counter.merge(asked.text)
    tokens = counter.overhead
    for part in user:
        if part["type"] == "text":
            tokens += counter.text(part["text"])
        else:
            tokens += counter.image(*_open(part["image_url"]["url"]))
    return tokens


FAULTS = ("429", "503", "slow", "cut", "malformed")


class FaultyProxy(_Runs):
    """Passes requests on to a server, and fails some of them: of `every` chat requests, one of each kind.

    `done` counts, by text, the replies that were passed on whole.
    """

    def __init__(self, port: int, every: int, slow_s: float) -> None:
        self._upstream, self._every, self._slow_s = port, every, slow_s
        self._number = 0
        self._lock = threading.Lock()
        self.is_faulty = True
        self.failed: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        super().__init__()

    def get(self, handler: _Handler) -> None:
        self._pass_on(handler, b"", "")

    def post(self, handler: _Handler, body: bytes) -> None:
        with self._lock:
            number = self._number = self._number + 1
        place = number % self._every
        fault = FAULTS[place] if self.is_faulty and place < len(FAULTS) else ""
        if fault:
            with self._lock:
                self.failed[fault] += 1
        if fault in ("429", "503"):
            headers = {"Retry_After": "0"} if fault == "429" else {}
            handler.fail(int(fault), "no room", **headers)
            return
        if fault == "slow":
            time.sleep(self._slow_s)
        text = json.loads(body)["messages"][-1]["content"][-1]["text"]
        if self._pass_on(handler, body, fault) and not fault:
            with self._lock:
                self.done[text] += 1

    def _pass_on(self, handler: _Handler, body: bytes, fault: str) -> bool:
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=120)
        try:
            headers = {
                name: handler.headers[name]
                for name in ("Content-Type", "Authorization")
                if handler.headers[name]
            }
            upstream.request(handler.command, handler.path, body or None, headers)
            said = upstream.getresponse()
            whole = said.read()
        except OSError:
            handler.fail(502, "the server behind this proxy is away")
            return False
        finally:
            upstream.close()
        handler.send_response(said.status)
        handler.send_header("Content-Type", said.headers.get("Content-Type", "text/plain"))
        if fault == "malformed":
            whole = b'data: {"choices": [{"delta": 7\n\ndata: [DONE]\n\n'
        handler.send_header("Content-Length", str(len(whole)))
        handler.end_headers()
        handler.wfile.write(whole[: len(whole) // 2] if fault == "cut" else whole)
        handler.wfile.flush()
        if fault == "cut":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        return said.status == 200


@contextlib.contextmanager
def running(*servers: ProtocolServer | FaultyProxy) -> Iterator[None]:
    """Kill servers at the end."""
    try:
        yield
    finally:
        for server in servers:
            server.kill()
