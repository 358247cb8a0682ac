"""Buckets on this machine, in a thread: moto's of Amazon, and gcp-storage-emulator's of Google."""

import contextlib
import http
import json
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from distill.buckets import bucket
from distill.data.sources.bucket_files import bucket_files

BUCKET = "runs"

# TensorStore asks once in a process where the emulator is.
with socket.socket() as _free:
    _free.bind(("127.0.0.1", 0))
    _GS_PORT = _free.getsockname()[1]


class Weather:
    """Which requests of an emulator fail, and how."""

    def __init__(self):
        self.status = http.HTTPStatus.SERVICE_UNAVAILABLE
        self.every: int | None = None
        """Each of so many; 1 is all of them."""
        self.count = self.failed = 0

    def fails(self) -> bool:
        """To be asked once for each request."""
        self.count += 1
        if self.every is None or self.count % self.every:
            return False
        self.failed += 1
        return True


@contextlib.contextmanager
def s3(weather: Weather) -> Iterator[dict[str, str]]:
    """Serves `s3://runs`; what the environment has to say is returned."""
    pytest.importorskip("moto.server")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_):
            pass

    served = DomainDispatcherApplication(create_backend_app)

    def application(environ, start_response):
        if weather.fails():
            # A connection on which a body waits to be read cannot be used again.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(
                f"{weather.status.value} {weather.status.phrase}", [("Content-Length", "0")]
            )
            return []
        return served(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
    yield {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    server.shutdown()
    thread.join()


def _downloaded(download: Callable[..., None]) -> Callable[..., None]:
    """With what Google's server says of an object, and parts from its end, and none beyond it."""

    def downloaded(request, response, storage, *rest, **options):
        download(request, response, storage, *rest, **options)
        if response.status == http.HTTPStatus.NOT_FOUND:
            return
        name = request.params["bucket_name"], request.params["object_id"]
        response["x-goog-generation"] = storage.get_file_obj(*name)["generation"]
        content = storage.get_file(*name)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.get_header("range", None) or "")
        if asked and not asked[1]:
            start = max(len(content) - int(asked[2]), 0)
            response["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            response.status = http.HTTPStatus.PARTIAL_CONTENT
            response.write_file(content[start:])
        elif asked and int(asked[1]) >= len(content):
            response["Content-Range"] = f"bytes */{len(content)}"
            response.status = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            response.write_file(b"")

    return downloaded


@contextlib.contextmanager
def gs(weather: Weather) -> Iterator[dict[str, str]]:
    """Serves `gs://runs`, once in a process; what the environment has to say is returned."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    objects = emulator.objects
    read = emulator._read_data
    handle = emulator.Router.handle

    def weathered(self, method):
        handler = self._request_handler
        # It knows prefixes of names, and TensorStore asks for a range of them.
        handler.path = handler.path.replace("startOffset=", "prefix=")
        if not weather.fails():
            return handle(self, method)
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        handler.send_response(weather.status)
        body = json.dumps({"error": {"code": weather.status.value}}).encode()
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with (
        # It fails at an object without content.
        mock.patch.object(emulator, "_read_data", lambda *asked: read(*asked) or b""),
        mock.patch.object(emulator.Router, "handle", weathered),
        mock.patch.object(objects, "download", _downloaded(objects.download)),
    ):
        server = emulator.create_server("127.0.0.1", _GS_PORT, True, BUCKET)
        server.start()
        yield {
            "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{_GS_PORT}",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        }
        server.stop()


@contextlib.contextmanager
def store(scheme: str) -> Iterator["Store"]:
    """A bucket of a scheme, `s3` or `gs`, that this process and those that it starts use."""
    weather = Weather()
    serve = {"s3": s3, "gs": gs}[scheme]
    with serve(weather) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setitem(bucket.RETRIES, "initial_delay", "10ms")
        patch.setitem(bucket.RETRIES, "max_delay", "50ms")
        bucket_files.cache_clear()
        yield Store(f"{scheme}://{BUCKET}", weather)
    bucket_files.cache_clear()


class Store(NamedTuple):
    """Where a bucket is, and the weather there."""

    url: str
    weather: Weather

    def upload(self, folder: Path, name: str) -> str:
        """Copies a folder, hidden files too; its URL."""
        objects = bucket.Bucket(f"{self.url}/{name}")
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                objects.write(str(file.relative_to(folder)), file.read_bytes())
        return objects.url
