"""A web server on loopback that publishes records like Zenodo does, and misbehaves when it is told to."""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What is wrong with one answer."""

    status: int = 0
    """Answer with this instead of the file."""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Close the connection after so many bytes of the body."""
    reset: bool = False
    """Close it with a reset, which can lose bytes on the way."""
    body: bytes | None = None
    """Serve this file in its place."""
    endless: bool = False
    """Announce no length, and never stop."""
    no_range: bool = False
    """Ignore Range."""
    no_length: bool = False
    """Announce no length."""
    stall: float = 0.0
    """Send nothing for so many seconds before the connection is cut."""


class Server:
    """Use with `with`; `url` is its address.

    files: path -> what is served there. faults: path -> what is wrong with the next answers, in turn; a path with
    an entry in `always` has that fault each time. asked: the path and the Range header of every request.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.asked: list[tuple[str, str]] = []
        self.agents: set[str] = set()

    def __enter__(self) -> "Server":
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                answer(server, self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def publish(self, record: str, files: dict[str, bytes]) -> None:
        """Publish a record, or change one."""
        listing = []
        for name, content in files.items():
            self.files[file_path(record, name)] = content
            checksum = f"md5:{hashlib.md5(content).hexdigest()}"
            listing.append({"key": name, "size": len(content), "checksum": checksum, "links": {"self": "elsewhere"}})
        self.files[f"/api/records/{record}"] = json.dumps({"id": int(record), "files": listing}).encode()

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _ in self.asked)


def file_path(record: str, name: str) -> str:
    """Where a file of a record is served."""
    return f"/records/{record}/files/{name}"


def answer(server: Server, handler: BaseHTTPRequestHandler) -> None:
    """Answer a request, with the fault that is due."""
    path = urlsplit(handler.path).path  # of a proxy's request, which names the host
    asked = handler.headers.get("Range", "")
    server.asked.append((path, asked))
    server.agents.add(handler.headers.get("User-Agent", ""))
    waiting = server.faults[path]
    fault = waiting.pop(0) if waiting else server.always.get(path, Fault())
    content = fault.body if fault.body is not None else server.files.get(path)
    if content is None or fault.status:
        handler.send_response(fault.status or 404)
        for name, value in fault.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return

    match = None if fault.no_range else re.fullmatch(r"bytes=(\d+)-", asked)
    start = int(match[1]) if match else 0
    if match and start >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if match else 200)
    if match:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if fault.endless or fault.no_length:
        handler.send_header("Connection", "close")
    else:
        handler.send_header("Content-Length", str(len(content) - start))
    for name, value in fault.headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    body = content[start:]
    try:
        handler.wfile.write(body if fault.cut is None else body[: fault.cut])
        while fault.endless:
            handler.wfile.write(bytes(1 << 16))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the client has had enough
    time.sleep(fault.stall)
    if fault.cut is not None or fault.endless or fault.no_length:
        handler.close_connection = True
    if fault.reset:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
