r"""Distils students from teachers by function matching.

  python pipelines/distill_student.py --config=configs/distill/digits.py --workdir=runs/student \
      --config.teacher.workdir=runs/teacher

A student learns to be the teacher's function on the same crops and mixtures (arXiv 2106.05237);
unless config.matching says otherwise, labels are only logged. Several teachers (config.teachers)
are weighted; several students (config.students) are taught by one pass of the teachers, each in a
directory of the workdir that is the workdir of its run alone. Running the same command again
resumes.
"""

import dataclasses
import functools
from pathlib import Path

from distill.command.launch import launch_training
from distill.data import Store
from distill.report.story import finish, finish_several, introduce
from distill.runs.distillation import DistillConfig
from distill.runs.standardised import teacher_statistics
from distill.runs.stored_teachers import (
    check_store,
    describe_teachers,
    stored_scores,
    stored_teachers,
)
from distill.runs.students import agree_on_classes, open_splits, trainee, view_size
from distill.runs.teachers import (
    fingerprints,
    load_teachers,
    say_scores,
    say_views,
    score,
    shown_as,
)
from distill.train.fit import fit
from distill.train.run import open_mesh, plan
from distill.train.train_log import train_log
from distill.train.trainee import Trained
from distill.train.workdir import Workdir


def run(
    config: DistillConfig, workdir: Workdir, name: str = "distill", *, overview: bool = True
) -> Trained:
    """Trains a student to match its teachers and writes its workdir."""
    with train_log(workdir):
        return _run({name: (config, workdir)}, name, overview)[name]


def run_all(
    config: DistillConfig, workdir: Workdir, name: str = "distill", *, overview: bool = True
) -> dict[str, Trained]:
    """Trains one student or several, each in a directory of its own; returns them by name."""
    if not config.students:
        return {name: run(config, workdir, name, overview=overview)}
    alone = {student: (one, workdir.below(student)) for student, one in config.alone.items()}
    with train_log(*(directory for _, directory in alone.values())):
        trained = _run(alone, name, overview)
    finish_several(trained, workdir)
    return trained


def _run(
    runs: dict[str, tuple[DistillConfig, Workdir]], name: str, overview: bool
) -> dict[str, Trained]:
    kept = {key: one.keeps_text for key, (one, _) in runs.items()}
    runs = {key: (one.with_text(), path) for key, (one, path) in runs.items()}
    config = next(iter(runs.values()))[0]
    mesh = open_mesh(config)
    splits = open_splits(config, [model for one, _ in runs.values() for model in one.models])
    store = None if config.targets is None else Store(Path(config.targets))
    runs = {key: (one.with_classes(splits, store), path) for key, (one, path) in runs.items()}
    config = next(iter(runs.values()))[0]
    students = {
        key: one.models[0].network().placed(mesh, one.mesh.table) for key, (one, _) in runs.items()
    }
    # Before teachers are loaded, whose projections the networks that are trained have, too.
    for key, (one, _) in runs.items():
        plan(one, students[key], splits)
    starts = [one.start for one, _ in runs.values()]
    if store is None:
        teachers, params = load_teachers(config.every_teacher, mesh)
        names, splits, teachers = agree_on_classes(config, students, splits, teachers, starts)
        named = config.every_teacher
        known = describe_teachers(named, teachers, fingerprints(named, params))
    else:
        teachers, params = stored_teachers(store, config.every_teacher, mesh), {}
        names, splits, _ = agree_on_classes(config, students, splits, teachers, starts, store)
        known = store.contents.about["teachers"]
    runs = {key: (shown_as(one, teachers), workdir) for key, (one, workdir) in runs.items()}
    config, size = next(iter(runs.values()))[0], view_size(students, teachers)
    if store is not None:
        check_store(store, config, config.matching, splits, size)
    trainees = {
        key: dataclasses.replace(
            trainee(
                one,
                directory,
                students[key],
                teachers,
                splits,
                names if students[key].config.num_classes else (),
                size,
                stored=store is not None,
                kept=kept[key],
            ),
            section="model" if key == name else f"students.{key}.model",
            teachers=known,
        )
        for key, (one, directory) in runs.items()
    }
    for key, student in students.items():
        introduce(key, student, splits, mesh, overview)
    if store is None:
        say_views(name, teachers, config)
        say_scores(name, score(config, teachers, params, splits), splits)
    else:
        say_scores(name, stored_scores(store), splits, stored=True)
    trained = fit(
        name,
        trainees,
        mesh=mesh,
        splits=splits,
        view_size=size,
        frozen=params,
        freeze=functools.partial(
            teacher_statistics, name, trainees, params, splits=splits, size=size, store=store
        ),
        teacher_view=config.matching.teacher_view,
        store=store,
    )
    return {key: finish(key, one, runs[key][1]) for key, one in trained.items()}


if __name__ == "__main__":
    launch_training(__doc__, DistillConfig, run_all)
