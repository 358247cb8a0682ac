"""Teachers: what a config says of them, and the trained networks it stands for."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jax.sharding import Mesh

from distill.config import resolve
from distill.matching.distillation import Teacher
from distill.nn import Params
from distill.parallel import Rules, override_rules
from pipelines.models import ModelConfig, load_model

# What a single teacher is called.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Whose function the student matches."""

    workdir: str
    """Of the run that trained the teacher."""
    step: int | None = None
    """Of the teacher's checkpoint; None takes the last of a run that is complete, which pins it."""
    weight: float = 1.0
    """How much it counts among several teachers."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the teacher's parameters and activations; None keeps the dtype of its run."""
    rules: Rules = ()
    """(logical axis, mesh axes) pairs: where the teacher's arrays live, as config.mesh.rules says
    it of the student's."""
    model: ModelConfig | None = None
    """What the workdir is expected to hold; None takes what is there."""

    def __post_init__(self):
        override_rules(self.rules)
        if self.weight <= 0:
            raise ValueError(f"weight must be positive, not {self.weight}")


def load_teachers(
    configs: Mapping[str, TeacherConfig], mesh: Mesh
) -> tuple[dict[str, Teacher], dict[str, Params]]:
    """The networks of trained teachers and their parameters, by name.

    Raises:
      UserError: for a workdir that does not hold the model that is expected.
    """
    teachers, params = {}, {}
    for name, config in configs.items():
        network, params[name] = load_model(
            Path(config.workdir),
            mesh,
            step=config.step,
            dtype=config.dtype,
            rules=config.rules,
            expected=config.model,
        )
        teachers[name] = Teacher(network, config.weight)
    return teachers, params


def recorded_teachers(recorded: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """The teachers of a run, as its config.json names them; none of a run that had none."""
    named = dict(recorded.get("teachers") or {})
    if recorded.get("teacher"):
        named[TEACHER] = recorded["teacher"]
    return {name: resolve(TeacherConfig, config) for name, config in named.items()}
