"""A model of a run, or of published weights, in JAX."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill.auto.layout import IN_CLASSES, find_data
from distill.config import resolve
from distill.data import DataConfig, open_source
from distill.data.sources.base import MissingSplit
from distill.data.sources.together import opened_together
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.evaluate.transfer import TransferConfig
from distill.export.images import Activation, answering
from distill.export.prepared import prepare
from distill.export.several import export_all
from distill.export.versions import FORMATS, check_format
from distill.nn import VisionNetwork
from distill.parallel import MeshConfig, batch_devices, make_mesh, put_batch
from distill.parallel.compiling import jit_replicated
from distill.runs.evaluated import evaluate
from distill.runs.opened import open_model
from distill.runs.weights import WeightsConfig
from distill.serving.images import Shown
from distill.serving.model import Model
from distill.serving.quiet import orbax_quiet
from distill.train.workdir import read_config

_NEIGHBOURS = 20


class OpenedModel(Model):
    """A model of a run or of published weights, on all devices of this machine.

    Args:
      model: the workdir of a run that is complete, or published weights.
      best: whether to take the run's best weights instead of its last.

    Raises:
      UserError: if it cannot be opened.
    """

    def __init__(self, model: Path | WeightsConfig, *, best: bool = False):
        recorded = read_config(model) if isinstance(model, Path) else {}
        self._model, self._best, self._recorded = model, best, recorded
        self._mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
        opened = open_model(model, self._mesh, best=best)
        self.place = Path(opened.place)
        self.network: VisionNetwork = opened.network
        self.params = opened.params
        """Nested dicts of arrays, on the devices."""
        config = opened.network.config
        names = opened.class_names
        self.class_names = names or tuple(map(str, range(config.num_classes)))
        data = resolve(DataConfig, recorded.get("data", {}))
        self.shown = Shown(
            max(config.image_shape[:2]), config.image_shape[2], opened.view, data.exif_orientation
        )
        sigmoid = (recorded.get("loss") or {}).get("kind") == "sigmoid"
        self._compute = _computed(opened.network, "sigmoid" if sigmoid else "softmax")
        self._step = opened.step

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """See `Model.run`."""
        count, devices = len(images), batch_devices(self._mesh)
        # Of few sizes, which are compiled once each.
        size = max(1 << (count - 1).bit_length(), 1)
        size += -size % devices
        whole = np.resize(images, (size, *images.shape[1:]))
        batch = put_batch(self._mesh, {"image": whole}, size=size)
        found = jax.device_get(self._compute(self.params, batch["image"]))
        return {name: np.asarray(value[:count]) for name, value in found.items()}

    def about(self) -> Mapping[str, Any]:
        """See `Model.about`."""
        return {"model": str(self.place), "step": self._step}

    @orbax_quiet()
    def evaluate(self, data: str | None = None, split: str | None = None) -> dict[str, float]:
        """See `Model.evaluate`; of a model without classes, its features are measured."""
        if data is None:
            if not isinstance(self._model, Path):
                raise UserError("published weights come without data; name some")
            return evaluate(self._model, {"": SplitConfig(split=split)}, best=self._best)
        source, chosen = labelled_data(data, split, self.shown.channels)
        if self.network.config.num_classes:
            asked: Any = SplitConfig(source=source, split=chosen)
            return evaluate(self._model, {"data": asked}, best=self._best, output=self._kept())
        train = "train" if chosen != "train" else "train[:80%]"
        asked = TransferConfig(
            sources=(source,),
            train_split=train,
            test_split="train[80%:]" if chosen == "train" else chosen,
            shots=(),
            neighbours=(_NEIGHBOURS,),
            probe=True,
        )
        return evaluate(self._model, {"transfer": asked}, best=self._best, output=self._kept())

    def _kept(self) -> Path | None:
        from distill.runs.evaluated import FILE

        return self._model / FILE if isinstance(self._model, Path) else None

    @orbax_quiet()
    def export(
        self, format: str = "stablehlo", output: str | Path | None = None, data: str | None = None
    ) -> Path:
        """See `Model.export`."""
        if format not in FORMATS:
            raise UserError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
        if output is None and not isinstance(self._model, Path):
            raise UserError("published weights have no workdir; say output, a directory")
        if data is None and not isinstance(self._model, Path):
            raise UserError("published weights come without data to compare exports on; say data")
        compared = SplitConfig()
        if data is not None:
            source, split = labelled_data(data, None, self.shown.channels, labelled=False)
            compared = SplitConfig(source=source, split=split)
        how: Any = dict(best=self._best, dtype="float32", compared_on=compared, images=1000)
        exported, samples, about = prepare(self._model, None, self._recorded, **how)
        check_format(format, exported)
        place = Path(output) if output is not None else self.place / "export"
        about |= {"licence": "unknown", "checked_on": samples.name}
        return export_all(exported, [format], place, samples, about)[format].path


def labelled_data(
    data: str, split: str | None, channels: int, *, labelled: bool = True
) -> tuple[str, str]:
    """A source's name and its split, of images to measure on.

    Args:
      data: a path, or a source's name.
      split: None takes test, or validation, or all there is.
      channels: 1 for grey or 3 for colour.
      labelled: whether images without labels are an error.

    Raises:
      UserError: if there are none.
    """
    found = find_data(data)
    if labelled and found.source.startswith("images:"):
        raise UserError(
            f"{data} holds images without labels, with which nothing can be compared; give "
            "images in folders, a class each (root/class/image)"
        )
    if split is not None:
        return found.source, split
    there = []
    with opened_together():
        for name in ("test", "validation", "train"):
            try:
                open_source(found.source, name, channels=channels)
            except MissingSplit:
                continue
            there.append(name)
    if not there:
        raise UserError(f"{found.source} has none of the splits test, validation and train")
    # Splits that nobody has made are drawn: all of them are the images that are meant.
    whole = found.layout == IN_CLASSES
    return found.source, "+".join(reversed(there)) if whole else there[0]


@functools.cache
def _computed(
    network: VisionNetwork, activation: Activation
) -> Callable[..., dict[str, jax.Array]]:
    """Maps (params, images) to what `Model.run` returns; compiled once for each batch size."""
    return jit_replicated(answering(network, activation), network.mesh)
