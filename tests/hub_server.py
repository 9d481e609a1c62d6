"""A hub in this process: as much of the Hugging Face hub's protocol as its client needs for small files."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class HubServer:
    """The models of a hub.

    Args:
        models: Files by model, `ORG/NAME`.
        gated: Models whose terms nobody has accepted.
        refuses: Whether nobody may write.
        asked: The paths that were asked for.
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    refuses: bool = False
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """A hub that answers on this machine while the context lasts."""
    hub = HubServer()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: HubServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.state.asked.append(path)
        if self.state.refuses:
            self._fail(403, "")
        elif path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
            self.state.models.setdefault(name, {})
            self._answer({"url": f"{self.state.address}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            self._answer({"files": modes})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.state.models[name][value["path"]] = base64.b64decode(value["content"])
            url = f"{self.state.address}/{name}/commit/{COMMIT}"
            self._answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        else:
            self._fail(404, "EntryNotFound")

    def _get(self) -> None:
        path = self.path.partition("?")[0]
        self.state.asked.append(path)
        is_listing = path.startswith("/api/models/")
        rest = path.removeprefix("/api/models/").removeprefix("/")
        name, _, place = rest.partition("/revision/" if is_listing else "/resolve/")
        revision, _, file = place.partition("/")
        if name in self.state.gated:
            self._fail(403, "GatedRepo")
        elif name not in self.state.models:
            self._fail(401, "RepoNotFound")
        elif revision not in ("", "main", COMMIT):
            self._fail(404, "RevisionNotFound")
        elif is_listing:
            siblings = [{"rfilename": each} for each in self.state.models[name]]
            self._answer({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings})
        elif file not in self.state.models[name]:
            self._fail(404, "EntryNotFound")
        else:
            content = self.state.models[name][file]
            self._send(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', **{"X-Repo-Commit": COMMIT})

    def _answer(self, values: dict[str, Any]) -> None:
        self._send(200, json.dumps(values).encode(), **{"Content-Type": "application/json"})

    def _fail(self, status: int, code: str) -> None:
        self._send(status, b"", **{"X-Error-Code": code})

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
