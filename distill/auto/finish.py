"""What follows on training: what the student is worth beside its teacher, and its exports."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.auto.choose import Chosen
from distill.data import DataConfig
from distill.data.sources.together import opened_together
from distill.errors import RunFailed, UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.transfer import SHORT_FORM, TransferConfig
from distill.evaluate.zeroshot import ZeroShotEvaluationConfig
from distill.export.model import Exportable, NotInstalled
from distill.export.prepared import prepare
from distill.export.several import export_all
from distill.export.versions import FORMATS, check_format
from distill.json_files import read_json, read_json_lines, write_json
from distill.parallel.printed import say
from distill.runs.distillation import DistillConfig
from distill.runs.evaluated import FILE, evaluate
from distill.runs.models import recorded_model
from distill.runs.teachers import TEACHER
from distill.terminal import text_table
from distill.train.progress import format_figure
from distill.train.workdir import read_config, read_summary
from students.pair import PairModel

EXPORTED = ("stablehlo", "saved_model", "onnx")
"""Formats that are written where their packages are installed."""
# Figures that are of student and teacher together.
_OF_PAIR = ("agreement", "kl", "cka", "cosine")
# Neighbours that vote, of images enough.
_NEIGHBOURS = 20
# Of more images, features are learnt from so many.
_LEARNT_FROM = 20_000
# A teacher is embedded for comparison where there are no more images than that.
_COMPARED = 5_000
# Images that exports are compared on.
_CHECKED = 100


def measure(chosen: Chosen) -> dict[str, dict[str, float]]:
    """Measures the student's features, and the teacher's where that is soon done.

    Args:
      chosen: the run, which is complete.

    Returns:
      Metrics by the names of models.
    """
    config, workdir = chosen.config, chosen.out
    evals = dict(_evaluations(chosen))
    if not evals:
        return {}
    known = _known(workdir)
    left = {name: one for name, one in evals.items() if name not in known}
    if left:
        say(f"auto: measures the {_who(chosen)}'s features")
        _head(_who(chosen))
        known |= _grouped(evaluate(workdir, left), left)
        sys.stdout.flush()
    student = {k: v for name in evals for k, v in known.get(name, {}).items()}
    found = {"student": student}
    teacher = config.teacher if isinstance(config, DistillConfig) else None
    if teacher is not None:
        file = workdir / "teacher_figures.json"
        found[TEACHER] = _of_teacher(chosen, teacher, evals, file)
    return found


def _of_teacher(chosen: Chosen, teacher: Any, evals: Any, file: Path) -> dict[str, float]:
    """The same figures of the teacher, kept in a file; none where that would take long."""
    if file.exists():
        return read_json(file)
    count = _images(chosen.config.data, chosen.config)
    if count > _COMPARED:
        say(f"auto: the teacher is not measured: {count:,} images would take long")
        return {}
    data, found = chosen.config.data, {}
    say("auto: measures the teacher's features")
    _head(TEACHER)
    of_source = {
        name: TransferConfig(
            sources=(data.source,),
            train_split=one.train_split or data.train_split,
            test_split=one.test_split or data.test_split or data.validation_split,
            shots=(),
            neighbours=one.neighbours,
            probe=one.probe,
        )
        for name, one in evals.items()
        if isinstance(one, TransferConfig)
    }
    try:
        found = evaluate(teacher.place, of_source, output=file.with_suffix(".jsonl"))
    except UserError as error:
        say(f"auto: the teacher is not measured: {error}")
    if chosen.match == "logits":
        found |= _as_classifier(teacher, data)
    sys.stdout.flush()
    write_json(file, found, checked=True)
    return found


def _as_classifier(teacher: Any, data: DataConfig) -> dict[str, float]:
    """The teacher's accuracy on what the student is validated and tested on, where it has any."""
    held = {"val": data.validation_split, "test": data.test_split}
    evals = {
        name: SplitConfig(source=data.source, split=split)
        for name, split in held.items()
        if split is not None
    }
    # Keeps no line: the directory is not this run's.
    with tempfile.TemporaryDirectory() as kept:
        try:
            return evaluate(teacher.place, evals, output=Path(kept) / FILE)
        except UserError as error:
            say(f"auto: the teacher's accuracy is not measured: {error}")
            return {}


def _who(chosen: Chosen) -> str:
    return "model" if chosen.command == "pretrain" else "student"


def _head(who: str) -> None:
    """Says on standard output whose figures follow."""
    print(f"\n{who}", flush=True)


def _evaluations(chosen: Chosen) -> Iterator[tuple[str, EvaluationConfig]]:
    data = chosen.config.data
    split = data.test_split or data.validation_split
    channels = _channels(chosen.config)
    if split is None:
        return
    with opened_together():
        train = data.open_training(channels=channels)
        if not train.class_names:
            return
    count = len(train)
    neighbours = min(_NEIGHBOURS, max(count // (2 * len(train.class_names)), 1))
    learnt = None
    if count > _LEARNT_FROM and not data.mixture and "[" not in data.train_split:
        learnt = f"{data.train_split}[:{_LEARNT_FROM}]"
    yield (
        SHORT_FORM,
        TransferConfig(
            train_split=learnt, test_split=split, shots=(), neighbours=(neighbours,), probe=True
        ),
    )
    if chosen.match == "words":
        yield "zeroshot", ZeroShotEvaluationConfig(split=split)


def _channels(config: Any) -> int:
    model = config.models[0] if isinstance(config, DistillConfig) else config.model
    # The text tower that a student keeps is nowhere in its config.
    tower = model.image or model if isinstance(model, PairModel) else model
    return tower.channels


def _images(data: DataConfig, config: Any) -> int:
    return len(data.open_training(channels=_channels(config)))


def _known(workdir: Path) -> dict[str, dict[str, float]]:
    """Metrics of evaluations that were done before the line was interrupted, by their names."""
    file = workdir / FILE
    if not file.exists():
        return {}
    return {line["name"]: line["metrics"] for line in read_json_lines(file)}


def _grouped(metrics: dict[str, float], evals: Any) -> dict[str, dict[str, float]]:
    heads = {name: one.heads(name) for name, one in evals.items()}
    return {
        name: {k: v for k, v in metrics.items() if k.partition("/")[0] in heads[name]}
        for name in evals
    }


def export(chosen: Chosen) -> None:
    """Exports the student in every format that it and this machine can take; says what is not.

    A format of which there is a version is not written again.
    """
    workdir, recorded = chosen.out, read_config(chosen.out)
    place = workdir / "export"
    left = [form for form in EXPORTED if not _versions(_place(place, form))]
    if not left:
        return
    say(f"auto: exports the {_who(chosen)}")
    images = dict(compared_on=SplitConfig(), images=_CHECKED)
    how: Any = dict(best=False, dtype="float32", **images)
    model, samples, about = prepare(workdir, None, recorded, **how)
    formats, missing = [], []
    for form in left:
        try:
            check_format(form, model)
        except UserError as error:
            missing.append(f"{form}: {_short(error)}")
        else:
            formats.append(form)
    about |= {"licence": "unknown", "checked_on": samples.name}
    try:
        export_all(model, formats, place, samples, about)
    except RunFailed as error:
        missing.append(str(error))
    for one in missing:
        say(f"auto: left out {one}")
    others = [form for form in FORMATS if form not in EXPORTED and _takes(form, model)]
    if others:
        listing = ", ".join(others)
        say(f"auto: distill export --workdir={workdir} --format=… writes others, too: {listing}")


def _takes(form: str, model: Exportable) -> bool:
    """Whether a format can hold a model, installed here or not."""
    try:
        check_format(form, model)
    except NotInstalled:
        return True
    except UserError:
        return False
    return True


def _short(error: UserError) -> str:
    text = str(error)
    return text.partition("; --format")[0] if isinstance(error, NotInstalled) else text


def _place(place: Path, form: str) -> Path:
    return place if form == "saved_model" else place / form


def _versions(place: Path) -> list[Path]:
    return [one for one in place.glob("[0-9]*") if one.is_dir()]


def conclude(chosen: Chosen, measured: dict[str, dict[str, float]]) -> None:
    """Prints what came of it, in a table, and what can be done with it."""
    summary = read_summary(chosen.out) or {}
    mine, theirs = measured.get("student", {}), measured.get(TEACHER, {})
    found = {name: value for name, value in (summary | mine).items() if _shown(name)}
    who = _who(chosen)
    beside, alone = [], []
    for name, value in found.items():
        value, other = format_figure(name, value), _of_teacher_beside(name, summary, theirs)
        if other is None:
            pair = name.partition("/")[2] in _OF_PAIR
            alone.append((f"{name} with the teacher" if pair else name, value))
        else:
            beside.append((name, value, other))
    for header, rows in (("figure", who, TEACHER), beside), (("figure", who), alone):
        if rows:
            print(f"\n{text_table(header, rows)}")
    print(f"\n{who:<8}  {chosen.out}")
    more = "" if _tells_classes(chosen) else " --embeddings --output=FILE.npz"
    print(f"use it    distill predict {chosen.out} IMAGE… | FOLDER{more}")
    skipped = summary.get("skipped_images")
    if skipped:
        print(
            f"skipped   {skipped:,} times an image could not be decoded, and the next one stood in "
            "for it; train.log names each once"
        )


def _tells_classes(chosen: Chosen) -> bool:
    """Whether `distill predict` has classes to print; a pair has those of the run's images."""
    if chosen.match == "words":
        return "zeroshot" in chosen.config.evals
    return bool(recorded_model(chosen.out).num_classes)


def _shown(name: str) -> bool:
    head, _, metric = name.partition("/")
    kept = ("accuracy", *_OF_PAIR)
    named = head in ("test", "val", "views", "zeroshot", "probe") and metric in kept
    return named or head == "knn"


def _of_teacher_beside(
    name: str, summary: dict[str, float], figures: dict[str, float]
) -> str | None:
    """The teacher's figure: measured alike, or beside the student's while that trained."""
    head, _, metric = name.partition("/")
    value = summary.get(f"{head}/{TEACHER}_{metric}", figures.get(name))
    return None if value is None else format_figure(name, value)
