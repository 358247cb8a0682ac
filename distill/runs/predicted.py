"""A finished model's predictions of a split, written to a file."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from distill.analysis.prediction_files import PredictionsWriter, check_writable, refuse_other
from distill.errors import UserError
from distill.evaluate.of_images import OfImagesConfig
from distill.evaluate.outputs import Rows
from distill.evaluate.predicted import Predictor
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.runs.subject import open_subject
from distill.runs.weights import WeightsConfig
from distill.train.progress import format_seconds

# Images in a part of the file, at least; what an interruption can cost.
_PART = 4096
# Seconds between lines that say how far it is.
_PATIENCE = 10.0


def predict(
    model: Path | WeightsConfig,
    images: OfImagesConfig,
    output: Path,
    *,
    batch_size: int = 256,
    best: bool = False,
    data_dir: str | None = None,
    max_corrupt_share: float | None = None,
) -> Path:
    """Writes what a model predicts of a split; goes on where it was interrupted.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      images: which images, and how they are shown.
      output: .npz or .parquet.
      batch_size: over all devices.
      best: whether to take the run's best weights instead of its last.
      data_dir: see `DataConfig`; None takes the run's.
      max_corrupt_share: see `DataConfig`, likewise.

    Raises:
      UserError: if model or images cannot be opened, or the file holds other predictions, or
        parts of others lie beside it.
    """
    check_writable(output)
    if isinstance(model, WeightsConfig) and not images.names_data:
        raise UserError(f"{model.called} come without data; give --source")
    opened = open_subject(
        model,
        batch_size=batch_size,
        best=best,
        data_dir=data_dir,
        max_corrupt_share=max_corrupt_share,
        with_teachers=False,
    )
    shown = images.shown("the prediction", opened.subject)
    if shown is None:
        raise UserError(
            f"{opened.subject.place} has neither test nor validation split; give --split"
        )
    predictor = Predictor(opened.subject, shown, numbered=False)
    for remark in predictor.remarks:
        say(remark)
    about = predictor.about() | {
        "model": opened.subject.place,
        "step": opened.step,
        "parameters": opened.parameters,
        **opened.about,
    }
    refuse_other(output, predictor.class_names, about)
    writer = PredictionsWriter(output, class_names=predictor.class_names, about=about)
    start = distributed.agree(writer.position)
    if start:
        say(f"goes on after {start:,} of {len(predictor.images):,} images")
    _write(writer, predictor, opened.params, start)
    if distributed.is_primary():
        writer.finish()
    say(f"{len(predictor.images):,} images of {about['data'][0]['source']} → {output}")
    return output


def _write(writer: PredictionsWriter, predictor: Predictor, params: Any, start: int) -> None:
    total, held, began = len(predictor.images), [], time.monotonic()
    said, seen = began, start
    for rows in predictor.rows(params, start):
        held.append(rows)
        if len(rows.index):
            seen = int(rows.index[-1]) + 1
        if sum(len(one.index) for one in held) >= _PART:
            _write_part(writer, predictor, held, seen)
            held = []
        now = time.monotonic()
        if now - said > _PATIENCE and seen > start:
            said, left = now, (now - began) * (total - seen) / (seen - start)
            say(f"{seen:,} of {total:,} images ({seen / total:.0%})  ETA {format_seconds(left)}")
    if held or not writer.position:
        _write_part(writer, predictor, held, total)


def _write_part(
    writer: PredictionsWriter, predictor: Predictor, held: list[Rows], end: int
) -> None:
    if not distributed.is_primary():
        return
    rows = Rows(*(np.concatenate(parts) for parts in zip(*held, strict=True)))
    described = predictor.columns(rows)
    index = rows.index.astype(np.int64)
    writer.write({**described, "logits": rows.values, "index": index}, end)
