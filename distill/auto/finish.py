"""What follows on training: what the student is worth beside its teacher, and its exports."""

import json
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
from distill.export.model import NotInstalled
from distill.export.prepared import prepare
from distill.export.several import export_all
from distill.export.versions import FORMATS, check_format
from distill.parallel.printed import say
from distill.runs.distillation import DistillConfig
from distill.runs.evaluated import FILE, evaluate
from distill.runs.teachers import TEACHER
from distill.terminal import text_table
from distill.train.progress import format_figure
from distill.train.workdir import read_config, read_summary
from students.pair import PairModel

EXPORTED = ("stablehlo", "saved_model", "onnx")
"""Formats that are written where their packages are installed."""
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
        say("auto: measures the student's features")
        known |= {name: one for name, one in _grouped(evaluate(workdir, left), left).items()}
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
        return json.loads(file.read_text(encoding="utf-8"))
    count = _images(chosen.config.data, chosen.config)
    if count > _COMPARED:
        say(f"auto: the teacher is not measured: {count:,} images would take long")
        return {}
    data, found = chosen.config.data, {}
    say("auto: measures the teacher's features")
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
    file.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return found


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
    lines = map(json.loads, filter(None, file.read_text(encoding="utf-8").splitlines()))
    return {line["name"]: line["metrics"] for line in lines}


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
    say("auto: exports the student")
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
    others = ", ".join(form for form in FORMATS if form not in EXPORTED)
    say(f"auto: distill export --workdir={workdir} --format=… writes others, too: {others}")


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
    who = "model" if chosen.command == "pretrain" else "student"
    header = ("figure", who) if chosen.command == "pretrain" else ("figure", who, TEACHER)
    rows = [
        (name, format_figure(name, value), _of_teacher_beside(name, summary, theirs))
        for name, value in found.items()
    ]
    if rows:
        print(f"\n{text_table(header, [row[: len(header)] for row in rows])}")
    print(f"\n{who:<8}  {chosen.out}")
    print(f"use it    distill predict {chosen.out} IMAGE… | FOLDER")
    skipped = summary.get("skipped_images")
    if skipped:
        print(
            f"skipped   {skipped:,} times an image could not be decoded, and the next one stood in "
            "for it; train.log names each once"
        )


def _shown(name: str) -> bool:
    head, _, metric = name.partition("/")
    kept = ("accuracy", "agreement", "kl", "cka", "cosine")
    named = head in ("test", "val", "views", "zeroshot", "probe") and metric in kept
    return named or head == "knn"


def _of_teacher_beside(name: str, summary: dict[str, float], figures: dict[str, float]) -> str:
    """The teacher's figure: measured alike, or beside the student's while that trained."""
    head, _, metric = name.partition("/")
    value = summary.get(f"{head}/{TEACHER}_{metric}", figures.get(name))
    return "—" if value is None else format_figure(name, value)
