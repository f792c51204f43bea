"""A hub in a thread for a few small repositories, with faults to order.

It answers over HTTP what huggingface_hub asks.

Large files answer with a redirect to another host, as the hub's do; the client must not take its
token along.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".bin", ".safetensors", ".zip", ".model")
GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted"}


@dataclass
class Repository:
    """Files by commit; branches by name."""

    kind: str
    name: str
    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    xet: bool = False  # its large files are in the hub's own storage too, which is out of reach


@dataclass
class Fault:
    """What happens instead of an answer, a number of times.

    Attributes:
        path: a regular expression that the request's path holds.
        method: of the request.
        status: to answer with, if any.
        headers: of that answer.
        after: end the connection after so many bytes of the content.
        reset: end it as a broken network does, not as a server that closes.
        content: bytes to send instead of the file's.
        before: to call before the answer.
        pause: seconds to wait before each tenth of the content.
        times: how often.
    """

    path: str
    method: str = "GET"
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    reset: bool = False
    content: bytes | None = None
    before: Callable[[], object] | None = None
    pause: float = 0.0
    times: int = 1


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    start: int  # of the range that was asked for
    authorized: bool


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def commit_of(files: Mapping[str, bytes]) -> str:
    """Some commit's hash, by its files."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Hub:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.accepted = (
            ""  # the token of an account that has accepted the terms of all that is gated
        )
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def add(self, kind: str, name: str, files: Mapping[str, bytes], gated: bool = False) -> str:
        """A repository with one commit, which `main` names; the commit."""
        commit = commit_of(files)
        self.repositories[kind, name] = Repository(
            kind, name, {commit: dict(files)}, {"main": commit}, gated
        )
        return commit

    def fetched(self) -> list[str]:
        """Names of files whose content was asked for, where it is."""
        paths = [r.path for r in self.requests if r.method == "GET" and "/resolve/" in r.path]
        return [
            path.rpartition("/")[2] for path in paths if "/cdn/" in path or not path.endswith(LARGE)
        ]

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def __enter__(self) -> Hub:
        hub = self

        class Bound(Handler):
            served = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Be gone, connections that are still open included."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.stop()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def handle(self) -> None:
        self.served._open.append(self.connection)
        with contextlib.suppress(ConnectionError):  # a client that goes away is no error here
            super().handle()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked.group(1)) if asked else 0
        self.served.requests.append(
            Request(self.command, path, start, "authorization" in self.headers)
        )
        fault = self.served.fault(self.command, path)
        if fault and fault.before:
            fault.before()
        if fault and fault.status:
            return self._send(fault.status, b'{"error": "ordered"}', fault.headers)
        api = re.fullmatch(r"/api/(model|dataset)s/(.+)/revision/(.+)", path)
        file = re.fullmatch(r"/(cdn/)?(datasets/)?(.+)/resolve/([^/]+)/(.+)", path)
        if api:
            return self._list(api.group(1), api.group(2), api.group(3))
        if file:
            return self._file(file, start, fault)
        return self._send(404, b"{}")

    def _known(self, kind: str, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.served.repositories.get((kind, name))
        if repository is None:
            # What the hub says of a repository that does not exist to someone who has not logged
            # in.
            self._send(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository, commit

    def _list(self, kind: str, name: str, revision: str) -> None:
        found = self._known(kind, name, revision)
        if found:
            repository, commit = found
            siblings = [
                _sibling(file, content)
                for file, content in sorted(repository.commits[commit].items())
            ]
            facts = {"id": name, "sha": commit, "private": False, "gated": repository.gated}
            facts |= {"tags": [], "downloads": 0}
            self._send(200, json.dumps({**facts, "siblings": siblings}).encode())

    def _file(self, path: re.Match[str], start: int, fault: Fault | None) -> None:
        stored, dataset, name, revision, file = path.groups()
        found = self._known("dataset" if dataset else "model", name, revision)
        if not found:
            return
        repository, commit = found
        content = repository.commits[commit].get(file)
        named = {"X-Repo-Commit": commit}
        welcome = self.headers.get("authorization") == f"Bearer {self.served.accepted}"
        if repository.gated and not stored and not welcome:
            return self._send(403, b'{"error": "gated"}', {**named, **GATED})
        if content is None:
            return self._send(
                404, b'{"error": "Entry not found"}', {**named, "X-Error-Code": "EntryNotFound"}
            )
        if file.endswith(LARGE) and not stored:
            linked = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"'}
            linked["X-Linked-Size"] = str(len(content))
            if repository.xet:
                linked |= {"X-Xet-Hash": "a" * 64, "X-Xet-Refresh-Route": f"{self.served.url}/xet"}
            elsewhere = f"http://localhost:{self.served.port}/cdn{self.path}"
            return self._send(302, b"", {**named, **linked, "Location": elsewhere})
        return self._content(content, start, {**named, "ETag": f'"{blob_id(content)}"'}, fault)

    def _content(
        self, content: bytes, start: int, headers: Mapping[str, str], fault: Fault | None
    ) -> None:
        sent = fault.content if fault and fault.content is not None else content
        if start >= len(sent) and start:
            return self._send(416, b"", {"Content-Range": f"bytes */{len(sent)}"})
        ranged = {"Content-Range": f"bytes {start}-{len(sent) - 1}/{len(sent)}"} if start else {}
        headers = {**headers, **ranged, "Accept-Ranges": "bytes"}
        return self._send(206 if start else 200, sent[start:], headers, fault)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.after if fault else None
        self._write(body if cut is None else body[:cut], fault.pause if fault else 0.0)
        if cut is not None:
            self._hang_up(fault is not None and fault.reset)

    def _write(self, body: bytes, pause: float) -> None:
        size = len(body) // 10 + 1 if pause else len(body)
        for start in range(0, len(body), max(size, 1)):
            if pause:
                time.sleep(pause)
            self.wfile.write(body[start : start + size])

    def _hang_up(self, reset: bool) -> None:
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def _sibling(file: str, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    pointer = {"sha256": digest, "size": len(content), "pointerSize": 134}
    lfs = {"lfs": pointer} if file.endswith(LARGE) else {}
    return {"rfilename": file, "size": len(content), "blobId": blob_id(content), **lfs}
