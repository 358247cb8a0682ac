"""Objects of a bucket, by TensorStore, which Orbax brings along."""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from distill.errors import RunFailed, UserError

RETRIES = {"max_retries": 12, "initial_delay": "500ms", "max_delay": "30s"}
"""Of a request that fails for a while, such as by a timeout or status 429 or 503: four minutes."""

_URL = re.compile(r"(s3|gs)://([^/]+)/?(.*)", re.DOTALL)
# What a user can mend. TensorStore's errors are plain ValueErrors that begin with the status, but
# for what the list of a bucket that is not there gives.
_REFUSED = re.compile(r"PERMISSION_DENIED|UNAUTHENTICATED|[Cc]redential")
_NO_BUCKET = re.compile(r"NOT_FOUND|INTERNAL: Failed to parse response metadata")
_NO_NAME = re.compile(r"Invalid \w+ object name")
_BEYOND = re.compile(r"OUT_OF_RANGE")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE of ~/.aws, or the role of "
    "the machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`, or the "
    "service account of the machine",
}
_ENDPOINT = {"s3": "AWS_ENDPOINT_URL and AWS_REGION", "gs": "TENSORSTORE_GCS_HTTP_URL"}


class Part(NamedTuple):
    """A part of an object."""

    content: bytes
    generation: bytes
    """Another one whenever the object is written anew."""


class _BeyondTheEnd(Exception):
    """A part was asked for that an object does not have, or not all of."""


class Bucket:
    """The objects below a URL such as `s3://bucket/runs/one`, by their names from there.

    Requests that fail for a while are made again, see `RETRIES`. All methods may be called from any
    thread.

    Raises:
      UserError: from any method, if there is no such bucket or it may not be used.
      RunFailed: from any method, if it cannot be reached.
    """

    def __init__(self, url: str):
        self.url = url
        whole = _URL.fullmatch(url)
        if whole is None:
            raise ValueError(f"{url!r} is no URL of a bucket")
        self._scheme, self._bucket, path = whole.groups()
        self._store = self._open(f"{path}/" if path else "")

    def _open(self, path: str) -> Any:
        # A connection over which nothing comes is given up, and the request made again.
        os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", "60")
        os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")
        # Nobody who names no bucket waits for it.
        import tensorstore

        spec: dict[str, Any] = {"bucket": self._bucket, "path": path}
        if self._scheme == "gs":
            spec |= {"driver": "gcs", "gcs_request_retries": RETRIES}
        else:
            spec |= {"driver": "s3", "s3_request_retries": RETRIES} | _of_environment()
        try:
            opening = tensorstore.KvStore.open(spec)
        except ValueError as error:
            raise UserError(f"{self.url} is no bucket: {_reason(error)}") from error
        return self._await(opening, self.url)

    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""
        return self._value(self._store.read(name), name)

    def read_all(self, names: list[str], at_once: int = 4) -> Iterator[tuple[str, bytes | None]]:
        """The contents of many objects, in order; some are on their way at once."""
        asked = [(name, self._store.read(name)) for name in names[:at_once]]
        for place in range(len(names)):
            name, future = asked.pop(0)
            yield name, self._value(future, name)
            if place + at_once < len(names):
                following = names[place + at_once]
                asked.append((following, self._store.read(following)))

    def ask(self, name: str, start: int, stop: int) -> Callable[[], Part | None]:
        """Asks for a part of an object; what is returned waits for it.

        Args:
          name: of the object.
          start: its first byte.
          stop: the byte after its last; the part is shorter where the object ends before.

        Returns:
          A function that returns the part, or None if there is no such object.
        """
        future = self._store.read(name, byte_range=slice(start, stop))

        def wait() -> Part | None:
            try:
                return self._part(future, name)
            except _BeyondTheEnd:
                return self.read_rest(name, start)

        return wait

    def read_rest(self, name: str, start: int) -> Part | None:
        """What an object holds from a byte on, which may be nothing; None if there is no object."""
        try:
            return self._part(self._store.read(name, byte_range=slice(start, None)), name)
        except _BeyondTheEnd:
            generation = self.generation(name)
            return None if generation is None else Part(b"", generation)

    def read_end(self, name: str, size: int) -> Part | None:
        """The last bytes of an object, all of a shorter one; None if there is none."""
        try:
            return self._part(self._store.read(name, byte_range=slice(-size, None)), name)
        except _BeyondTheEnd:
            return self._part(self._store.read(name), name)

    def generation(self, name: str) -> bytes | None:
        """What tells one content of an object from another; None if there is no object."""
        part = self._part(self._store.read(name, byte_range=slice(0, 0)), name)
        return None if part is None else part.generation

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, whole or not at all."""
        self._await(self._store.write(name, content), f"{self.url}/{name}")

    def delete(self, name: str) -> None:
        """Deletes an object, if there is one."""
        self._await(self._store.write(name, None), f"{self.url}/{name}")

    def names(self, prefix: str = "") -> list[str]:
        """The names of all objects, or of those that begin so, sorted."""
        found = self._await(self._store.list(_range(prefix)), f"{self.url}/{prefix}".rstrip("/"))
        if not found:
            # To TensorStore Google's refusal to list is a list of nothing, but not one to read.
            self.generation(prefix.rstrip("/") or "0")
        names = (name.decode("utf-8", "surrogateescape") for name in found)
        return sorted(name for name in names if name.startswith(prefix))

    def _part(self, future: Any, name: str) -> Part | None:
        found = self._await(future, f"{self.url}/{name}")
        return None if found.state == "missing" else Part(found.value, found.stamp.generation)

    def _value(self, future: Any, name: str) -> bytes | None:
        found = self._await(future, f"{self.url}/{name}")
        return None if found.state == "missing" else found.value

    def _await(self, future: Any, what: str) -> Any:
        try:
            return future.result()
        except ValueError as error:
            reason = _reason(error)
            if _BEYOND.match(reason):
                raise _BeyondTheEnd from error
            if _NO_NAME.match(reason):
                raise UserError(f"{what} can be no object: {reason}") from error
            if _REFUSED.search(reason):
                raise UserError(
                    f"{what} may not be used: {reason}. Check the credentials "
                    f"({_CREDENTIALS[self._scheme]}) and what they allow"
                ) from error
            if _NO_BUCKET.match(reason):
                raise UserError(
                    f"{what} cannot be used: {reason}. Check that there is a bucket "
                    f"{self._bucket!r}, or create it"
                ) from error
            raise RunFailed(
                f"{what} cannot be reached: {reason}. Check the network and "
                f"{_ENDPOINT[self._scheme]}"
            ) from error


def _reason(error: ValueError) -> str:
    """What an error of TensorStore's says, without what only its authors understand."""
    return str(error).partition(" [")[0]


def _range(prefix: str) -> Any:
    """The names from a prefix on to those that do not begin so; None for all of them."""
    import tensorstore

    # The name after all that begin so ends with the next character, which has to be one.
    while prefix and not prefix[-1].isascii():
        prefix = prefix[:-1]
    if not prefix:
        return None
    return tensorstore.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


def _of_environment() -> dict[str, Any]:
    """What Amazon's own tools read from the environment and TensorStore does not."""
    spec: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        spec["endpoint"] = endpoint.rstrip("/")
    if region or endpoint:
        spec["aws_region"] = region or "us-east-1"
    # The default looks into files first and complains of each that is missing.
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        spec["aws_credentials"] = {"type": "environment"}
    return spec
