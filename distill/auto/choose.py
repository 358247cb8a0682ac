"""A run's config from a line: data, a teacher, a student, a budget."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from distill.auto.budget import Budget, read_budget
from distill.auto.choices import Choice, choice_table
from distill.auto.config_file import config_text, said, write_whole
from distill.auto.images import choose_images
from distill.auto.layout import find_data
from distill.auto.measured import open_rig
from distill.auto.recipe import Match, Recipe, choose_recipe
from distill.auto.request import CONFIG, Request, forget, remember, remembered
from distill.auto.sizing import Sized, choose_size
from distill.auto.student import checked_variant, choose_student
from distill.auto.teacher import Taught, find_teacher
from distill.config import load_file, resolve
from distill.parallel.printed import say
from distill.runs.distillation import DistillConfig
from distill.runs.pretraining import PretrainConfig

# Of a run that is told nothing: in time, and in epochs, which of few images is over sooner.
_SECONDS, _DISTILLED, _PRETRAINED = 1800.0, 300.0, 200.0
# Keys that say a length, and what of a budget they are.
_LENGTHS = {
    "train.total_steps": "steps",
    "train.total_epochs": "epochs",
    "train.total_examples": "images",
}

Command = Literal["distill_student", "pretrain"]
"""Whose schema the config has."""
SCHEMAS: Mapping[Command, type] = {"distill_student": DistillConfig, "pretrain": PretrainConfig}


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
    config = resolve(SCHEMAS[known["command"]], load_file(str(out / CONFIG)))
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
    draft = _Draft(
        command="pretrain" if taught is None else "distill_student",
        recipe=recipe,
        overrides=request.overrides,
    )
    say("auto: compiles and times a few steps")
    rig = open_rig(draft.config(dict(batch_size=jax.device_count(), total_steps=10), "none"))
    budget = draft.budget or budget or _by_default(taught)
    sized = choose_size(rig, draft.config, budget, images, request.overrides.keys())
    # The teacher's parameters are read again by the run.
    del rig
    teacher = taught.choices if taught else ()
    choices = _explained(
        [*images.choices, *teacher, *student.choices, *recipe.choices, *sized.choices],
        request.overrides,
    )
    title = f"{student.choices[0].chosen} on {images.section['source']}"
    by = f", taught by {request.teacher}" if taught else ""
    draft.write(request, out, sized, choices, f"{title}{by}")
    return dict(command=draft.command, match=recipe.match)


def _by_default(taught: Taught | None) -> Budget:
    return Budget(seconds=_SECONDS, most_epochs=_DISTILLED if taught else _PRETRAINED)


@dataclasses.dataclass(frozen=True)
class _Draft:
    """A run whose size is open."""

    command: Command
    recipe: Recipe
    overrides: Mapping[str, str]

    def config(self, train: Mapping[str, Any], remat: str) -> Any:
        """The config with a section `train` and a way to compute activations again."""
        return resolve(SCHEMAS[self.command], self.tree(train, remat), self.overrides)

    def tree(self, train: Mapping[str, Any], remat: str) -> dict[str, Any]:
        """The same before the user's keys are laid over it."""
        sections, execution = self.recipe.sections, {}
        if remat != "none":
            execution["remat"] = remat
        if jax.default_backend() != "cpu":
            execution["dtype"] = "bfloat16"
        model = sections["model"]
        if self.recipe.match == "words":
            model = {**model, "image": model["image"] | execution}
        else:
            model = model | execution
        # There is one length, and the user's goes before.
        keep = self.budget is None
        train = {k: v for k, v in train.items() if keep or f"train.{k}" not in _LENGTHS}
        return {**sections, "model": model, "train": train}

    @property
    def budget(self) -> Budget | None:
        """The length that the user's keys say, if they do."""
        for key, name in _LENGTHS.items():
            if key in self.overrides:
                # That it is a number, and of which kind, the config has checked.
                number = float(self.overrides[key])
                length: Any = {name: number if name == "epochs" else int(number)}
                return Budget(**length)
        return None

    def write(
        self, request: Request, out: Path, sized: Sized, choices: Sequence[Choice], title: str
    ) -> None:
        """Writes the config and what it comes from, and says it."""
        tree = self.tree(sized.train, sized.remat)
        config = resolve(SCHEMAS[self.command], tree, self.overrides)
        command = f"distill {self.command} --config={out / CONFIG} --workdir=DIR"
        values = said(config, tree, self.overrides)
        content = config_text(values, choices, title=title, command=command)
        out.mkdir(parents=True, exist_ok=True)
        forget(out)
        remember(request, out, self.command, self.recipe.match, choices)
        write_whole(out / CONFIG, content)
        print(f"\n{choice_table(choices)}\n", flush=True)
        say(f"auto: written to {out / CONFIG}")


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
