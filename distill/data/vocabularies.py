"""Vocabularies in the files that libraries write: from a text to numbers of its pieces.

`tokenizers` and `sentencepiece` come with the extra `text` and are imported where they are needed.
"""

import functools
import gzip
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distill.errors import UserError

_MERGES = "merges.txt"
# In a folder, the first of these.
_FILES = (
    "tokenizer.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    _MERGES,
    "bpe_simple_vocab_16e6.txt.gz",
)
_EXPECTED = f"expected a folder with, or a file as, {', '.join(_FILES[:-1])} or {_FILES[-1]}"

# Of CLIP (https://github.com/openai/CLIP): bytes with and without a word's end, as many merges at
# most, and the marks of a text's beginning and end.
_MOST_MERGES = 49408 - 2 * 256 - 2
_MARKS = ("<|startoftext|>", "<|endoftext|>")
_WORD_END = "</w>"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class Vocabulary(NamedTuple):
    """Pieces of texts and their numbers."""

    files: tuple[str, ...]
    """Its path, or the paths of both its halves."""
    size: int
    """How many pieces there are."""
    encode: Callable[[str], list[int]]
    """The pieces of a text, without marks of its beginning and end."""
    token: Callable[[int], str | None]
    """A piece by its number; None if there is none."""
    digest: bytes
    """A hash of the file."""

    @property
    def path(self) -> str:
        """Of its file, or the first half of it."""
        return self.files[0]


def needed(library: str, what: str) -> Any:
    """A library of the extra `text`.

    Args:
      library: its name.
      what: begins the error, such as "vocabularies are read by".

    Raises:
      UserError: if it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise UserError(
            f"{what} the package {library}, which is not installed: pip install "
            "'distill-vit[text]', or in a checkout pip install -e '.[text]'"
        ) from error


def open_vocabulary(path: str) -> Vocabulary:
    """Reads a vocabulary.

    Args:
      path: of a file that `tokenizers` or `sentencepiece` wrote, of CLIP's merges, or of a folder
        with one of these.

    Raises:
      UserError: if there is none, it cannot be read, or the library that reads it is missing.
    """
    file = _found(path)
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"vocabulary {file} cannot be read: {error.strerror}") from error
    name = os.path.basename(file)
    if name.endswith(".model"):
        return _by_sentencepiece(file, data)
    if name in ("vocab.json", _MERGES) or name.endswith((".txt", ".txt.gz")):
        return _by_merges(file, data)
    return _by_tokenizers(file, data)


def _found(path: str) -> str:
    """The file of a vocabulary."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise UserError(f"no vocabulary at {path}; {_EXPECTED}")
        return path
    for name in _FILES:
        if os.path.exists(file := os.path.join(path, name)):
            return file
    raise UserError(f"{path} holds no vocabulary; {_EXPECTED}")


def _by_tokenizers(file: str, data: bytes) -> Vocabulary:
    library = needed("tokenizers", "vocabularies are read by")
    try:
        tokenizer = library.Tokenizer.from_buffer(data)
    except ValueError as error:
        raise UserError(f"{file} is no tokenizer.json: {error}; {_EXPECTED}") from error
    return _vocabulary((file,), tokenizer, data)


def _vocabulary(files: tuple[str, ...], tokenizer: Any, data: bytes) -> Vocabulary:
    # What the file says of these is not asked; nor is a mark's name in a text a mark.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return Vocabulary(
        files,
        tokenizer.get_vocab_size(),
        # A batch would be shared among threads, of which loaders have their own.
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        tokenizer.id_to_token,
        hashlib.blake2b(data).digest(),
    )


def _by_sentencepiece(file: str, data: bytes) -> Vocabulary:
    library = needed("sentencepiece", f"{os.path.basename(file)} is read by")
    try:
        pieces = library.SentencePieceProcessor(model_proto=data)
    except RuntimeError as error:
        raise UserError(f"{file} is no model of sentencepiece: {error}; {_EXPECTED}") from error
    size = pieces.get_piece_size()
    return Vocabulary(
        (file,),
        size,
        functools.partial(pieces.encode, out_type=int, add_bos=False, add_eos=False),
        lambda number: pieces.id_to_piece(number) if 0 <= number < size else None,
        hashlib.blake2b(data).digest(),
    )


def _by_merges(file: str, data: bytes) -> Vocabulary:
    """CLIP's pieces: those of words, of which the last ends with `</w>`, in UTF-8's bytes."""
    numbers: Mapping[str, int] | None = None
    files = (file,)
    if file.endswith(".json"):
        numbers = _numbers(file, data)
        merges_file = os.path.join(os.path.dirname(file), _MERGES)
        files = (file, merges_file)
        merges = _merges(merges_file, _merges_beside(file, merges_file))
    else:
        merges = _merges(file, data)
    library = needed("tokenizers", "vocabularies are read by")
    if numbers is None:
        letters = _letters()
        pieces = [*letters, *(one + _WORD_END for one in letters), *map("".join, merges), *_MARKS]
        numbers = {piece: number for number, piece in enumerate(pieces)}
    for pair in merges:
        if lacking := [piece for piece in (*pair, "".join(pair)) if piece not in numbers]:
            raise UserError(
                f"the merges of {file} do not fit its pieces, which lack {lacking[0]!r} of the "
                f"merge {' '.join(pair)!r}"
            )
    model = library.models.BPE(dict(numbers), merges, end_of_word_suffix=_WORD_END)
    tokenizer = library.Tokenizer(model)
    before = library.pre_tokenizers
    tokenizer.pre_tokenizer = before.Sequence(
        [
            before.Split(library.Regex(_WORDS), "removed", invert=True),
            before.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _vocabulary(files, tokenizer, data)


def _numbers(file: str, data: bytes) -> Mapping[str, int]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict) or not all(type(one) is int for one in found.values()):
        raise UserError(f"{file} is no vocabulary; expected an object from piece to number")
    return found


def _merges_beside(file: str, merges_file: str) -> bytes:
    try:
        return Path(merges_file).read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} is half of a vocabulary; {merges_file}, the other half, cannot be read: "
            f"{error.strerror}"
        ) from error


def _merges(file: str, data: bytes) -> list[tuple[str, str]]:
    """The pairs that become one piece, first those that come first."""
    try:
        text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        lines = text.decode("utf-8").split("\n")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    # The first line says what the file is.
    pairs = [tuple(line.split()) for line in lines[1 : 1 + _MOST_MERGES] if line.strip()]
    wrong = next((place for place, pair in enumerate(pairs) if len(pair) != 2), None)
    if wrong is not None or not pairs:
        what = f"line {2 + (wrong or 0)} is no pair of pieces" if pairs else "it has no pairs"
        raise UserError(f"{file} holds no merges of pieces: {what}; {_EXPECTED}")
    return [(first, second) for first, second in pairs]


def _letters() -> list[str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary: first the printable."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = 256 - len(printable)
    return [*map(chr, printable), *(chr(256 + number) for number in range(others))]
