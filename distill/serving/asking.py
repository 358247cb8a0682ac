"""What a model says of images, printed or written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.parallel.printed import say
from distill.serving.answers import Answers, check_output
from distill.serving.loading import load_model


def ask(
    model: str,
    images: Sequence[str],
    output: Path | None = None,
    *,
    top: int = 3,
    embeddings: bool = False,
    batch_size: int = 256,
    **how: Any,
) -> Answers:
    """Prints or writes what a model says of images, and returns it.

    Args:
      model: see `distill.serving.loading.load_model`.
      images: files and folders.
      output: see `distill.serving.answers.Answers.write`; None prints.
      top: how many classes of each image.
      embeddings: whether to write embeddings in place of classes.
      batch_size: images that are computed at once.
      **how: other arguments of `load_model`.

    Raises:
      UserError: for a model or images that are not there, or a file of another kind.
    """
    if embeddings and output is None:
        raise UserError("--embeddings are for a file: add --output=FILE.npz or FILE.parquet")
    if output is not None:
        check_output(output, embeddings=embeddings)
    opened = load_model(model, **how)
    if not opened.class_names and not embeddings:
        raise UserError(
            f"the model in {opened.place} has no classes; --embeddings --output=FILE.npz writes "
            "what it has, and --zeroshot_classes=cat,dog makes a pair a classifier"
        )
    answers = opened.predict(images, batch_size=batch_size)
    if output is None:
        print(answers.table(top))
    else:
        answers.write(output, embeddings=embeddings, top=top)
        say(f"{len(answers):,} images → {output}")
    if answers.unreadable:
        say(f"{len(answers.unreadable):,} files left out, which cannot be decoded")
    return answers
