"""Text as numbers of tokens, padded and cut by the rule of the text tower's family.

Files of vocabularies also say how texts are cleaned, padded and cut, and often otherwise than the
tower was trained: a text padded on the left, or to another length, gives wrong embeddings without
an error. So only the vocabulary is taken from a file. The `tokenizers` and `sentencepiece` that
read it come with the extra `text`.
"""

import dataclasses
import functools
import hashlib
import html
import json
import os
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from distill.bounds import Tokens, check_fields
from distill.data.vocabularies import Vocabulary, needed, open_vocabulary
from distill.errors import UserError
from distill.json_files import write_json
from distill.paths import LocalPath

Family = Literal["clip", "siglip", "siglip2"]
"""Whose rule texts are made into tokens by."""

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
"""The first tokens of a vocabulary that `train_tokenizer` makes, in order."""


class _Rule(NamedTuple):
    """How a family was trained."""

    length: int
    pad: int
    begins: bool
    """Whether a beginning is marked; then it and the end are the last two of the vocabulary, else
    the end is token 1."""
    ends: tuple[str, ...]
    """What the mark of the end is called."""
    clean: Callable[[str], str]
    cleaned: str
    """What that does, in words."""


def _clean_for_clip(text: str) -> str:
    """https://github.com/mlfoundations/open_clip, tokenizer.py: mended, unescaped, on one line."""
    text = needed("ftfy", "texts for CLIP are cleaned by").fix_text(text)
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


_RULES: Mapping[str, _Rule] = {
    "clip": _Rule(
        *(77, 0, True, ("<|endoftext|>", "<end_of_text>"), _clean_for_clip),
        "mended by ftfy, HTML's entities read twice, runs of white space one space, small letters",
    ),
    # https://github.com/google-research/big_vision, pp/proj/image_text: eos="sticky", the length
    # and the number that pads from the configs and checkpoints of each.
    "siglip": _Rule(64, 1, False, ("</s>", "<eos>"), str.lower, "small letters"),
    "siglip2": _Rule(64, 0, False, ("<eos>", "</s>"), str.lower, "small letters"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """From texts to tokens.

    The file is read when it is first needed, in each process.

    Raises:
      ValueError: for a length that leaves no room for a text.
    """

    path: LocalPath
    """A vocabulary: `tokenizer.json`, `spiece.model`, CLIP's `bpe_simple_vocab_16e6.txt.gz`,
    `vocab.json` beside `merges.txt`, or the folder of one of them."""
    family: Family
    """Whose rule cleans, pads and cuts texts: that of the text tower. For a vocabulary that was
    trained here, `siglip2`."""
    length: Tokens
    """Tokens of a text; by default 77 for `clip`, and 64 for `siglip` and `siglip2`, of which
    SigLIP's So400m/14 at 224 pixels has 16."""

    def __post_init__(self):
        check_fields(self)
        if self.length < 2 + self._rule.begins:
            raise ValueError(
                f"length must be {2 + self._rule.begins} or more, as a text's marks are tokens "
                f"too, not {self.length}"
            )

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The length that the family was trained with."""
        rule = _RULES.get(given.get("family", ""))
        return {"length": rule.length} if rule else {}

    def __getstate__(self) -> dict[str, Any]:
        # A vocabulary is read again rather than sent.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The tokens of each text, int32 [N, length]: its own, the end's mark, and padding.

        Of a text that is too long the last tokens are left out, the mark stays.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        rule, (begin, end) = self._rule, self._marks
        tokens = np.full((len(texts), self.length), rule.pad, np.int32)
        for row, text in zip(tokens, texts, strict=True):
            found = [*begin, *self._vocabulary.encode(rule.clean(text))][: self.length - 1]
            row[: len(found) + 1] = [*found, end]
        return tokens

    def within(self, vocab: int, texts: Sequence[str]) -> np.ndarray:
        """The tokens of each text, as a text tower with a table of so many rows takes them.

        Raises:
          UserError: if the vocabulary cannot be read, or has a token that the tower does not.
        """
        ids = self(texts)
        if ids.size and ids.max() >= vocab:
            raise UserError(
                f"{self._vocabulary.path} has token {ids.max():,}, and the text tower "
                f"{vocab:,} tokens: it is the vocabulary of another tower"
            )
        return ids

    @property
    def vocab(self) -> int:
        """How many tokens there are, and so the rows of a text tower's table at least.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        return self._vocabulary.size

    @property
    def eos_id(self) -> int:
        """The token that marks a text's end.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        return self._marks[1]

    @property
    def pad_id(self) -> int:
        """The token after a text's end."""
        return self._rule.pad

    def token(self, number: int) -> str | None:
        """A token by its number; None if there is none.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        return self._vocabulary.token(number)

    @property
    def files(self) -> tuple[Path, ...]:
        """Of the vocabulary: one, or two of which each has a half.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        return tuple(map(Path, self._vocabulary.files))

    @property
    def about(self) -> dict[str, Any]:
        """The rule by which texts become tokens, as JSON can hold it.

        `cleaned` says what is done to a text; its tokens then stand between those of `begin`, which
        may be none, and `end`, cut to `length`, the mark of the end included, and padded on the
        right with `padding`.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        begin, end = self._marks
        return {
            "family": self.family,
            "length": self.length,
            "cleaned": self._rule.cleaned,
            "begin": list(begin),
            "end": end,
            "padding": self._rule.pad,
            "vocabulary": [file.name for file in self.files],
            "fingerprint": self.fingerprint,
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change where tokens may; the same wherever the file lies.

        Raises:
          UserError: if the vocabulary cannot be read.
        """
        rule = f"{self.family} {self.length} ".encode()
        return hashlib.blake2b(rule + self._vocabulary.digest, digest_size=8).hexdigest()

    @property
    def _rule(self) -> _Rule:
        return _RULES[self.family]

    @functools.cached_property
    def _vocabulary(self) -> Vocabulary:
        return open_vocabulary(self.path)

    @functools.cached_property
    def _marks(self) -> tuple[tuple[int, ...], int]:
        """Of a text's beginning, if any, and of its end."""
        last = self._vocabulary.size - 1
        begin, end = ((last - 1,), last) if self._rule.begins else ((), 1)
        found = self._vocabulary.token(end)
        if found not in self._rule.ends:
            raise UserError(
                f"{self._vocabulary.path} is no vocabulary of family {self.family}: its token "
                f"{end} is {found!r}, and should be {' or '.join(self._rule.ends)}. Give another "
                "file, or its own family"
            )
        return begin, end


def open_tokenizer(path: str, *, family: Family, length: int | None = None) -> Tokenizer:
    """A tokenizer whose vocabulary has been read.

    Args:
      path: see `Tokenizer`.
      family: see `Tokenizer`.
      length: tokens of a text; None takes the family's.

    Raises:
      UserError: if there is no vocabulary that can be read, or it is of another family.
      ValueError: for another family or a length that leaves no room.
    """
    own: int = Tokenizer.implied({"family": family}).get("length", 0)
    tokenizer = Tokenizer(
        path=os.path.abspath(path), family=family, length=own if length is None else length
    )
    # It reads all that can be wrong.
    _ = tokenizer.eos_id
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab: int, path: str) -> None:
    """Learns a vocabulary from texts by byte pair encoding, and writes it as `tokenizer.json`.

    Words are learnt in small letters and with compatible characters made one (NFKC). The same texts
    give the same file. It is read as `family="siglip2"`: <pad> is 0, </s> 1, and <unk>, 2, stands
    for letters that were not in the texts.

    Args:
      texts: such as captions.
      vocab: the most tokens.
      path: of the file.

    Raises:
      UserError: if there are no texts, `vocab` is less than their letters and three others, or the
        file cannot be written.
    """
    library = needed("tokenizers", "vocabularies are trained by")
    learnt = library.Tokenizer(library.models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    learnt.normalizer = library.normalizers.Sequence(
        [library.normalizers.NFKC(), library.normalizers.Lowercase()]
    )
    learnt.pre_tokenizer = library.pre_tokenizers.Metaspace()
    learnt.decoder = library.decoders.Metaspace()
    # For other readers of the file.
    learnt.post_processor = library.processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, 1)]
    )
    # Unigram's trainer gives another vocabulary each time.
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[PAD, EOS, UNKNOWN], show_progress=False
    )
    learnt.train_from_iterator(filter(str.strip, texts), trainer)
    found = learnt.get_vocab_size()
    if found <= 3:
        raise UserError("there are no texts to learn a vocabulary from; give captions")
    if found > vocab:
        raise UserError(
            f"a vocabulary of {vocab} is too small: the texts' letters and three other tokens "
            f"are {found} already; ask for more, such as 1000"
        )
    try:
        write_json(Path(path), json.loads(learnt.to_str()))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def canonicalise(text: str, *, keep: str = "") -> str:
    """A text as big_vision has it for zero-shot classification: small letters, no punctuation.

    `_` becomes a space, and spaces one.

    Args:
      text: such as a class's name.
      keep: punctuation that stays where it stands as a whole, such as `{}` or `,`.
    """
    parts = text.replace("_", " ").split(keep) if keep else [text.replace("_", " ")]
    plain = keep.join(part.translate(_WITHOUT_PUNCTUATION) for part in parts)
    return re.sub(r"\s+", " ", plain.lower()).strip()


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
