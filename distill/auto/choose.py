"""A run's config from a line: data, a teacher, a student, a budget."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from distill.auto.budget import Budget, read_budget
from distill.auto.choices import Choice, choice_table
from distill.auto.config_file import config_text, said, write_text
from distill.auto.images import choose_images
from distill.auto.layout import find_data
from distill.auto.measured import open_rig
from distill.auto.recipe import Match, choose_recipe
from distill.auto.request import CONFIG, Request, remember, remembered
from distill.auto.sizing import choose_size
from distill.auto.student import checked_variant, choose_student
from distill.auto.teacher import find_teacher
from distill.config import load_file, resolve
from distill.parallel.printed import say
from distill.runs.distillation import DistillConfig
from distill.runs.pretraining import PretrainConfig

# Of a run that is told nothing: in time, and in epochs, which of few images is over sooner.
_SECONDS, _DISTILLED, _PRETRAINED = 1800.0, 300.0, 200.0
_LENGTHS = ("train.total_steps", "train.total_epochs", "train.total_examples")

Command = Literal["distill_student", "pretrain"]
"""Whose schema the config has."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A run, and how it came to be."""

    out: Path
    command: Command
    match: Match
    config: DistillConfig | PretrainConfig
    """As the file in `out` says it."""


def choose(request: Request, out: Path) -> Chosen:
    """Chooses a run, says why, and writes its config; what was chosen before stands.

    Args:
      request: the line.
      out: directory of the run.

    Raises:
      UserError: for whatever of the line cannot be.
    """
    known = remembered(request, out)
    if known is None:
        known = _choose(request, out)
    else:
        say(f"auto: goes on with {out / CONFIG}; nothing is measured again")
    schema = DistillConfig if known["command"] == "distill_student" else PretrainConfig
    config = resolve(schema, load_file(str(out / CONFIG)))
    return Chosen(out, known["command"], known["match"], config)


def _choose(request: Request, out: Path) -> dict[str, Any]:
    # What is typed wrongly is said before anything is opened.
    budget = read_budget(request.budget) if request.budget else None
    if request.student:
        checked_variant(request.student)
    taught = find_teacher(request.teacher) if request.teacher else None
    images = choose_images(find_data(request.data), 3 if taught is None else taught.channels)
    student = choose_student(request.student, taught, images)
    recipe = choose_recipe(images, taught, student)
    schema = PretrainConfig if taught is None else DistillConfig
    overrides = request.overrides
    sections = recipe.sections
    if jax.default_backend() != "cpu":
        tower = sections["model"].get("image", sections["model"])
        tower["dtype"] = "bfloat16"

    def tree(train: Mapping[str, Any], remat: str) -> dict[str, Any]:
        model = dict(sections["model"])
        if remat != "none" and recipe.match == "words":
            model["image"] = {**model["image"], "remat": remat}
        elif remat != "none":
            model["remat"] = remat
        if any(key in overrides for key in _LENGTHS):
            train = {k: v for k, v in train.items() if f"train.{k}" not in _LENGTHS}
        return {**sections, "model": model, "train": dict(train)}

    def configured(train: dict[str, Any], remat: str) -> Any:
        return resolve(schema, tree(train, remat), overrides)

    say("auto: compiles and times a few steps")
    rig = open_rig(configured(dict(batch_size=jax.device_count(), total_steps=10), "none"))
    epochs = _PRETRAINED if taught is None else _DISTILLED
    budget = budget or Budget(seconds=_SECONDS, most_epochs=epochs)
    sized = choose_size(rig, configured, budget, images, overrides.keys())
    # The teacher's parameters are read again by the run.
    del rig
    final = tree(sized.train, sized.remat)
    config = resolve(schema, final, overrides)
    choices = _explained(
        [
            *images.choices,
            *(taught.choices if taught else ()),
            *student.choices,
            *recipe.choices,
            *sized.choices,
        ],
        overrides,
    )
    command = "pretrain" if taught is None else "distill_student"
    out.mkdir(parents=True, exist_ok=True)
    remember(request, out, command, recipe.match, choices)
    title = f"{student.choices[0].chosen} on {images.section['source']}"
    content = config_text(
        said(config, final, overrides),
        choices,
        title=title if taught is None else f"{title}, taught by {request.teacher}",
        command=f"distill {command} --config={out / CONFIG} --workdir=DIR",
    )
    write_text(out / CONFIG, content)
    print(f"\n{choice_table(choices)}\n", flush=True)
    say(f"auto: written to {out / CONFIG}")
    return dict(command=command, match=recipe.match)


def _explained(choices: Sequence[Choice], overrides: Mapping[str, str]) -> list[Choice]:
    """The choices, with what the user has laid over them."""
    found, left = [], dict(overrides)
    for choice in choices:
        own = {
            key: value
            for key, value in overrides.items()
            if any(f"{key}.".startswith(f"{one}.") for one in choice.keys)
        }
        left = {key: value for key, value in left.items() if key not in own}
        said = ", ".join(f"{key}={value}" for key, value in own.items())
        why = f"{said}, as you say; {choice.why}" if own else choice.why
        found.append(choice._replace(why=why))
    return [*found, *(Choice(key, value, "as you say", (key,)) for key, value in left.items())]
