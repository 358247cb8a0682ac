"""A stand-in for Hugging Face's hub, on this machine: as much of its HTTP as uploading takes."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_jane"


class Hub(ThreadingHTTPServer):
    """Keeps repositories of one user, and of one organisation of hers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        """Commits of each, the files of one each, large ones from where they were sent."""
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.owners = {"jane", "lab"}
        self.answers: dict[str, int] = {}
        """By the end of a path, the status with which it is refused."""
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._handle()

    do_POST = do_PUT = do_GET

    def _handle(self):
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(path)
        if path.startswith("/large/"):
            oid = path.rpartition("/")[2]
            assert hashlib.sha256(body).hexdigest() == oid
            self.server.large[oid] = body
            return self._say(200, {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._say(401, {"error": "Invalid username or password."})
        for end, status in self.server.answers.items():
            if path.endswith(end):
                return self._say(status, {"error": f"refused with {status}"})
        if path == "/api/whoami-v2":
            orgs = [{"name": name} for name in sorted(self.server.owners - {"jane"})]
            return self._say(200, {"name": "jane", "type": "user", "orgs": orgs})
        if path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/objects/batch"):
            return self._batch(json.loads(body))
        _, _, kind, user, name, *rest = path.split("/")
        assert kind == "models"
        repository = f"{user}/{name}"
        if repository not in self.server.repositories:
            return self._say(404, {"error": "Repository not found"})
        if rest == ["preupload", "main"]:
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return self._say(200, {"files": files})
        assert rest == ["commit", "main"], path
        return self._commit(repository, [json.loads(line) for line in body.splitlines()])

    def _create(self, asked):
        owner = asked.get("organization") or "jane"
        if owner not in self.server.owners:
            return self._say(403, {"error": f"You don't have the rights to create in {owner}"})
        repository = f"{owner}/{asked['name']}"
        there = repository in self.server.repositories
        self.server.repositories.setdefault(repository, [])
        self.server.private.setdefault(repository, asked.get("visibility") == "private")
        return self._say(409 if there else 200, {"url": f"{self.server.address}/{repository}"})

    def _batch(self, asked):
        objects = [
            {
                **one,
                "actions": {"upload": {"href": f"{self.server.address}/large/{one['oid']}"}},
            }
            for one in asked["objects"]
        ]
        return self._say(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repository, lines):
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.repositories[repository].append(files)
        oid = "0" * 40
        url = f"{self.server.address}/{repository}/commit/{oid}"
        return self._say(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _say(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
