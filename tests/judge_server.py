"""An OpenAI-compatible endpoint on this machine, for the tests: it counts what it is asked, and can fail."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "sk-secret-of-this-test-0123456789"
AT_ONCE = {"retry-after-ms": "1"}  # how long a client is to wait before it tries again


@dataclass
class Answer:
    """What is sent back. text: the judge's reply; body: instead of a completion that holds it."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str = "stop"


def by_hash(asked: dict[str, Any]) -> Answer:
    """Right or wrong by the text alone: the same in every run."""
    digest = hashlib.sha256(text_of(asked).encode()).digest()
    return Answer(json.dumps({"correct": digest[0] % 2 == 0}))


def text_of(asked: dict[str, Any]) -> str:
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


@dataclass
class Server:
    """answer: from a request's body to what is sent back. asked: how often each body came."""

    answer: Callable[[dict[str, Any]], Answer] = by_hash
    url: str = ""
    asked: Counter = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.asked]


@contextmanager
def judge_server(answer: Callable[[dict[str, Any]], Answer] = by_hash):
    """A server while the block runs. Its handlers run in threads."""
    served = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with served.lock:
                served.asked[body] += 1
                served.keys.add(self.headers["authorization"])
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
            try:
                found = served.answer(json.loads(body))
                self._send(found)
            finally:
                with served.lock:
                    served.at_once -= 1

        def _send(self, found: Answer) -> None:
            message = {"role": "assistant", "content": found.text}
            choice = {"index": 0, "finish_reason": found.finish_reason, "message": message}
            whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            body = found.body if found.body is not None else json.dumps(whole).encode()
            try:
                self.send_response(found.status)
                for name, value in {"content-type": "application/json", **found.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client has gone

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
