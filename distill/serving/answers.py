"""What a model says of images, on a terminal and in files: classes and embeddings."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from distill.analysis.prediction_files import as_utf8, write_predictions
from distill.analysis.predictions import Predictions
from distill.data.sources.base import printable
from distill.errors import UserError
from distill.json_files import replace_file
from distill.terminal import text_table
from distill.unwritten import whole_or_not

# Of Parquet's rows; what is written at once.
_LINES = "\n"


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model says of N images."""

    names: tuple[str, ...]
    """Of the images: paths, or numbers of arrays."""
    class_names: tuple[str, ...]
    """In the order of the logits; empty of a model without classes."""
    embedding: np.ndarray
    """float32 [N, D]."""
    logits: np.ndarray | None = None
    """float32 [N, C]; None of a model without classes."""
    probabilities: np.ndarray | None = None
    """float32 [N, C]."""
    unreadable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Files that were left out, and why."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Whose answers they are."""

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class that is the most probable, of each image.

        Raises:
          UserError: of a model without classes.
        """
        return tuple(self.class_names[n] for n in self._scores().argmax(axis=-1))

    def top(self, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of each image, and their probabilities.

        Args:
          count: of classes; all where there are no more.

        Raises:
          UserError: of a model without classes.
        """
        scores = self._scores()
        order = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
        return [
            [(self.class_names[n], float(row[n])) for n in best]
            for row, best in zip(scores, order, strict=True)
        ]

    def table(self, count: int = 3) -> str:
        """The most probable classes of each image, for a terminal."""
        count = min(count, len(self.class_names))
        header = ["image", *(cell for n in range(count) for cell in (f"{_place(n)} class", "p"))]
        rows = [
            [printable(name), *(cell for called, p in best for cell in (called, f"{p:.1%}"))]
            for name, best in zip(self.names, self.top(count), strict=True)
        ]
        return text_table(header, rows)

    def _scores(self) -> np.ndarray:
        if self.probabilities is None:
            raise UserError("the model has no classes; it has embeddings")
        return self.probabilities

    def write(self, file: Path, *, embeddings: bool = False, top: int = 5) -> None:
        """Writes a file of the kind that its name says, so that a reader never finds half.

        Args:
          file: .csv, .json or .jsonl with the most probable classes; .npz or .parquet with all
            scores, as docs/predictions.md has them, or with embeddings.
          embeddings: whether these are written.
          top: classes of each image, of text files.

        Raises:
          UserError: for a name that says no kind, or one that does not hold what is asked for.
          OSError: naming the file, if it cannot be written; then it is as it was.
        """
        check_output(file, embeddings=embeddings)
        if embeddings:
            _replace(file, _EMBEDDINGS[file.suffix], self)
        elif file.suffix in _TEXTS:
            content = _TEXTS[file.suffix](self, top)
            replace_file(file, content.encode("utf-8", "surrogateescape"))
        else:
            write_predictions(file, self._predictions())

    def _predictions(self) -> Predictions:
        self._scores()
        assert self.logits is not None
        return Predictions(
            scores=self.logits,
            class_names=self.class_names,
            labels=np.full(len(self), -1, np.int64),
            names=np.array(self.names, dtype=str),
            about=self.about,
        )


def _place(number: int) -> str:
    return ("1st", "2nd", "3rd")[number] if number < 3 else f"{number + 1}th"


def check_output(file: Path, *, embeddings: bool) -> None:
    """Checks that there can be a file, and that its name says a kind that holds what is asked for.

    Raises:
      UserError: if it does not, or its directory cannot be made.
    """
    kinds = tuple(_EMBEDDINGS) if embeddings else (*_TEXTS, *_EMBEDDINGS)
    if file.suffix not in kinds:
        what = "embeddings are written to" if embeddings else "predictions are written to"
        raise UserError(f"--output is {file}; {what} files named {', '.join(kinds)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: cannot make {file.parent}: {error.strerror}") from error


def _csv(answers: Answers, top: int) -> str:
    count = min(top, len(answers.class_names))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=_LINES)
    pairs = (f"{what}_{n + 1}" for n in range(count) for what in ("class", "probability"))
    writer.writerow(["image", *pairs])
    for name, best in zip(answers.names, answers.top(count), strict=True):
        writer.writerow([name, *(cell for one, p in best for cell in (one, f"{p:.6g}"))])
    return out.getvalue()


def _objects(answers: Answers, top: int) -> Iterator[dict[str, Any]]:
    for name, best in zip(answers.names, answers.top(top), strict=True):
        classes = [{"class": called, "probability": p} for called, p in best]
        yield {"image": name, "classes": classes}


def _json(answers: Answers, top: int) -> str:
    return json.dumps(list(_objects(answers, top)), indent=2) + "\n"


def _jsonl(answers: Answers, top: int) -> str:
    return "".join(json.dumps(one) + "\n" for one in _objects(answers, top))


_TEXTS: Mapping[str, Callable[[Answers, int], str]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _jsonl,
}


def _replace(file: Path, write: Callable[[BinaryIO, Answers], None], answers: Answers) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    with whole_or_not(temporary, file):
        with temporary.open("wb") as out:
            write(out, answers)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)


def _npz(out: BinaryIO, answers: Answers) -> None:
    np.savez(out, name=np.array(answers.names, dtype=str), embedding=answers.embedding)


def _parquet(out: BinaryIO, answers: Answers) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Parquet needs pyarrow: pip install -e '.[arrow]'") from error
    width = answers.embedding.shape[1]
    values = pa.array(answers.embedding.reshape(-1), pa.float32())
    embedding = pa.FixedSizeListArray.from_arrays(values, width)
    names = pa.array(list(map(as_utf8, answers.names)), pa.string())
    parquet.write_table(pa.table({"name": names, "embedding": embedding}), out)


_EMBEDDINGS: Mapping[str, Callable[[BinaryIO, Answers], None]] = {
    ".npz": _npz,
    ".parquet": _parquet,
}
