"""A model that is opened to be looked at: a run's or a published one, and what goes with it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from distill.config import resolve
from distill.data import DataConfig
from distill.data.classes import Names
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.nn import Network, Params
from distill.parallel import MeshConfig, batch_devices, distributed, make_mesh
from distill.runs.models import load_model
from distill.runs.teachers import TeacherConfig, recorded_teachers
from distill.runs.weights import WeightsConfig, load_weights
from distill.train.progress import say
from distill.train.workdir import read_classes, read_config


class Subject(NamedTuple):
    """What is evaluated, and on what."""

    place: str
    """Its workdir, or the path of its weights."""
    network: Network
    """Placed on the mesh."""
    params: Params
    data: DataConfig
    split: str
    teachers: Mapping[str, TeacherConfig]
    """Those the model was distilled from."""
    class_names: Names
    """In the order of the logits; empty where nothing says them."""
    view: EvaluationView
    """What of an image the model is to be shown."""

    @property
    def mesh(self) -> Mesh:
        """Where it is."""
        return self.network.placement.mesh


def open_subject(
    model: Path | WeightsConfig,
    split: str | None,
    source: str | None,
    batch_size: int,
    best: bool,
    data_dir: str | None,
) -> Subject:
    """Opens a model on a mesh of all devices, and says how images are shown to it.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      split: None takes the run's test split.
      source: of images; None takes the run's own data.
      batch_size: over all devices.
      best: whether to take the run's best weights instead of its last.
      data_dir: see `DataConfig`; None takes the run's.

    Raises:
      UserError: if it cannot be read, or there is no such split.
    """
    recorded = {} if isinstance(model, WeightsConfig) else read_config(model)
    data = resolve(DataConfig, recorded.get("data", {}))
    if source:
        data = dataclasses.replace(data, eval_source=source)
    if data_dir:
        data = dataclasses.replace(data, data_dir=data_dir)
    split = split or data.test_split or data.validation_split
    if split is None:
        raise UserError(f"the run in {model} has neither test nor validation split; give --split")
    distributed.check_joined()
    try:
        mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    except ValueError as error:
        raise UserError(f"evaluation runs on one TPU slice: {error}") from error
    if batch_size % batch_devices(mesh):
        raise UserError(f"--batch_size={batch_size} is not divisible by {mesh.size} devices")
    if isinstance(model, WeightsConfig):
        place, (network, params, names, view) = model.path, load_weights(model, mesh)
    else:
        place, (network, params) = str(model), load_model(model, mesh, best=best)
        names, view = read_classes(model), data.view.evaluation
    say(f"{place} is shown {view.described(max(network.config.image_shape[:2]))}")
    return Subject(place, network, params, data, split, recorded_teachers(recorded), names, view)
