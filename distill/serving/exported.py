"""An exported model, in its own runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.config import resolve
from distill.data import DataConfig, EvalLoader, open_source
from distill.data.classes import numbered
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.export.versions import DESCRIPTION
from distill.json_files import read_json
from distill.serving.images import Shown
from distill.serving.model import BATCH, Model
from distill.serving.opened import labelled_data
from distill.serving.runtimes import onnx_class_names, open_runtime
from distill.train.workdir import is_run, read_config

# Files beside a model in which its classes stand, a name a line or a list in JSON.
_NAMES = ("class_names.json", "assets/class_names.txt", "class_names.txt")


class ExportedModel(Model):
    """An export that takes images at one size: SavedModel, StableHLO, TFLite or ONNX.

    Args:
      path: a version's directory, or a file in it.

    Raises:
      UserError: if it is none, or its runtime is not installed.
    """

    def __init__(self, path: Path):
        self.place = path
        version = path if path.is_dir() else path.parent
        described = read_json(version / DESCRIPTION)
        self.format: str = described["format"]
        done = described["preprocessing"]
        if "mode" not in done or "crop" not in done:
            raise UserError(
                f"{version} is an export of another kind than a model of whole images; "
                "docs/export.md says how it is used"
            )
        self._described = described
        tflite = self.format.startswith("tflite") and path.is_file()
        self._run = open_runtime(self.format, path if tflite else version)
        self.class_names = _class_names(version, described)
        self.shown = Shown(
            done["height"],
            1 if done["mode"] == "L" else 3,
            EvaluationView(
                crop=done["crop"],
                resize=done["resize"],
                filter=done["filter"],
                unseen=done.get("unseen", 0),
                rounding=done.get("rounding", "down"),
            ),
        )

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """See `Model.run`."""
        return {k: np.asarray(v, np.float32) for k, v in self._run(images).items()}

    def about(self) -> Mapping[str, Any]:
        """See `Model.about`."""
        step = self._described["about"].get("step")
        return {"model": str(self.place), "format": self.format, "step": step}

    def evaluate(self, data: str | None = None, split: str | None = None) -> dict[str, float]:
        """See `Model.evaluate`: accuracy, in the export's own runtime."""
        if not self.class_names:
            raise UserError(
                f"the export in {self.place} has embeddings alone; distill evaluate measures those "
                "of its run"
            )
        recorded = DataConfig()
        if data is None:
            recorded = self._recorded_data()
            split = split or recorded.test_split or recorded.validation_split
            source = recorded.evaluation_source
        else:
            source, split = labelled_data(data, split, self.shown.channels)
        assert split is not None
        channels = self.shown.channels
        images = open_source(source, split, channels=channels, data_dir=recorded.data_dir)
        images = numbered(images, self.class_names, shown=source, whose="the export")
        loader = EvalLoader(
            images,
            recorded,
            size=self.shown.size,
            batch_size=BATCH,
            put=lambda batch: batch,
            view=self.shown.view,
        )
        right = count = 0
        for batch in loader:
            use = np.asarray(batch["mask"], bool) & (np.asarray(batch["label"]) >= 0)
            if use.any():
                logits = self.run(np.asarray(batch["image"])[use])["logits"]
                right += int((logits.argmax(-1) == np.asarray(batch["label"])[use]).sum())
                count += int(use.sum())
        if not count:
            raise UserError(f"{source} has no image with a label that can be decoded")
        name = "data" if data is not None else split
        return {f"{name}/accuracy": right / count}

    def _recorded_data(self) -> DataConfig:
        workdir = self._described["about"].get("workdir")
        if not workdir or not is_run(Path(workdir)):
            raise UserError(f"the run of the export in {self.place} is not there; name data")
        return resolve(DataConfig, read_config(Path(workdir))["data"])

    def export(
        self, format: str = "stablehlo", output: str | Path | None = None, data: str | None = None
    ) -> Path:
        """Refuses: an export comes of a run or of weights.

        Raises:
          UserError: always.
        """
        workdir = self._described["about"].get("workdir") or "the run's workdir"
        raise UserError(
            f"{self.place} is an export already; other formats are made of its run: distill "
            f"export --workdir={workdir} --format={format}"
        )


def _class_names(version: Path, described: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of its classes, in the order of its logits; empty if it has none."""
    outputs = described["signature"]["outputs"]
    if "logits" not in outputs:
        return ()
    for name in _NAMES:
        file = version / name
        if file.is_file() and file.suffix == ".json":
            return tuple(read_json(file))
        if file.is_file():
            return tuple(file.read_text(encoding="utf-8").splitlines())
    if described["format"] == "onnx":
        return onnx_class_names(version)
    return tuple(map(str, range(outputs["logits"][1][-1])))
