"""Exports on Hugging Face's hub: a repository of what was exported, in one commit."""

import contextlib
import dataclasses
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import RunFailed, UserError
from distill.export.hub_card import places, repository_card, without_paths
from distill.export.versions import CARD, DESCRIPTION, Version
from distill.json_files import read_json

README = "README.md"
# As the hub has them.
_PART = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_NAMED = "expected USER/REPO, such as jane/vit-tiny-digits, of letters, digits, ., _ and -"


@dataclasses.dataclass(frozen=True)
class Push:
    """Where to, and how.

    Raises:
      UserError: if the hub has no such names.
    """

    name: str
    """USER/REPO; of an organisation, its name for the user's."""
    private: bool = False
    """Of a repository that is made; one that is there stays as it is."""
    dry_run: bool = False
    """Only say what would be uploaded: without network and token."""

    def __post_init__(self):
        parts = self.name.split("/")
        sound = len(parts) == 2 and all(
            _PART.fullmatch(part) and not re.search(r"--|\.\.", part) for part in parts
        )
        if not sound or self.name.endswith(".git"):
            raise UserError(f"--push is {self.name!r}; {_NAMED}")

    def check(self) -> None:
        """Checks, before anything is exported, that somebody is there who may upload.

        Raises:
          UserError: if a package or a token is missing, or the token is not accepted.
          RunFailed: if the hub cannot be reached.
        """
        if self.dry_run:
            return
        if importlib.util.find_spec("huggingface_hub") is None:
            raise UserError(
                "--push uploads with the package huggingface_hub, which is not installed: pip "
                "install 'distill-vit[hub]', or in a checkout pip install -e '.[hub]'; "
                "--push_dry_run needs none"
            )
        from huggingface_hub import get_token

        if get_token() is None:
            raise UserError(
                "--push needs a token of Hugging Face's hub that may write: make one at "
                "https://huggingface.co/settings/tokens and type hf auth login, or set HF_TOKEN; "
                "--push_dry_run needs none"
            )
        with self._explained("Nothing was exported"):
            found = _api().whoami()
        names = [found["name"], *(one["name"] for one in found.get("orgs", ()))]
        if self.name.partition("/")[0] not in names:
            raise UserError(
                f"--push is {self.name!r}, and the token is of {found['name']}, who may write to "
                f"{', '.join(f'{name}/…' for name in names)}; give one of these, or another token "
                "by hf auth login or HF_TOKEN. Nothing was exported"
            )

    def send(self, versions: Mapping[str, Version]) -> str | None:
        """Uploads what was exported and its card; returns the address, in a dry run None.

        All files go into one commit: the repository has all of them or is as it was, but for a
        new one that may be left empty. Files of other names that are there stay.

        Raises:
          UserError: if the hub refuses it.
          RunFailed: if it cannot be reached, or fails.
        """
        files = contents(self.name, versions)
        sizes = {
            name: len(one) if isinstance(one, bytes) else one.stat().st_size
            for name, one in files.items()
        }
        visible = "private" if self.private else "public"
        done = "would be uploaded to" if self.dry_run else "uploads to"
        print(f"{done} {self.name} ({visible} if it is new):")
        width = max(map(len, sizes))
        for name, size in sizes.items():
            print(f"  {name:<{width}}  {size:>15,} bytes")
        print(f"  {f'{len(sizes)} files':<{width}}  {sum(sizes.values()):>15,} bytes")
        if self.dry_run:
            print(f"\n{README}:\n\n{repository_card(self.name, versions)}")
            return None
        from huggingface_hub import CommitOperationAdd

        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=one)
            for name, one in files.items()
        ]
        written = ", ".join(str(one.path) for one in versions.values())
        with self._explained(f"Nothing was uploaded; what was exported stays: {written}"):
            api = _api()
            address = api.create_repo(self.name, private=self.private, exist_ok=True)
            api.create_commit(self.name, operations, commit_message=f"Upload {', '.join(versions)}")
        print(f"uploaded: {address}")
        return str(address)

    @contextlib.contextmanager
    def _explained(self, left: str) -> Iterator[None]:
        """Says of what the hub answers what to do about it; `left` is what came of it so far."""
        from huggingface_hub import errors

        # That of its HTTP library, which was another one in earlier versions.
        unreachable: Any = errors.HfHubHTTPError.__mro__[1]
        try:
            yield
        except errors.HfHubHTTPError as error:
            said = _server_message(error)
            status = error.response.status_code if error.response is not None else 0
            if status == 401:
                raise UserError(
                    f"the hub does not accept the token: {said}\nType hf auth login, or set "
                    f"HF_TOKEN to one of https://huggingface.co/settings/tokens. {left}"
                ) from error
            if status in (403, 404):
                raise UserError(
                    f"the token may not write to {self.name}: {said}\nGive a name of your own, "
                    "--push=USER/REPO, or a token that may write there, by hf auth login or "
                    f"HF_TOKEN. {left}"
                ) from error
            kind = UserError if 400 <= status < 500 and status != 429 else RunFailed
            raise kind(f"the hub refuses {self.name} ({status}): {said}. {left}") from error
        except (unreachable, OSError) as error:
            raise RunFailed(
                f"{_endpoint()} cannot be reached: {error}\nLook at the network, and at "
                f"HF_ENDPOINT and HF_HUB_OFFLINE if they are set. {left}"
            ) from error
        except (RuntimeError, ValueError) as error:
            # What a card's YAML is refused for, and what the transfer of large files raises.
            raise RunFailed(f"the upload to {self.name} failed: {error}. {left}") from error


def contents(name: str, versions: Mapping[str, Version]) -> dict[str, Path | bytes]:
    """The files of a repository by their names in it: README.md, and those of each version.

    Files that tell of a version name the directories of this machine by their last part.
    """
    found: dict[str, Path | bytes] = {README: _bytes(repository_card(name, versions))}
    for form, folder in places(versions).items():
        root = versions[form].path
        about = read_json(root / DESCRIPTION)["about"]
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root).as_posix()
            # The card at the top is README.md.
            if not path.is_file() or (not folder and inside in (CARD, README)):
                continue
            told = inside in (CARD, DESCRIPTION)
            found[f"{folder}/{inside}" if folder else inside] = (
                _bytes(
                    without_paths(path.read_text(encoding="utf-8", errors="surrogateescape"), about)
                )
                if told
                else path
            )
    return found


def _bytes(text: str) -> bytes:
    # What a path's name holds may be no text; the hub takes UTF-8 alone.
    return text.encode("utf-8", "replace")


def _api() -> Any:
    from huggingface_hub import HfApi

    # Its own default is what the variable was when the package was imported.
    return HfApi(endpoint=_endpoint(), library_name="distill-vit")


def _endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def _server_message(error: Any) -> str:
    return " ".join((error.server_message or str(error)).split())
