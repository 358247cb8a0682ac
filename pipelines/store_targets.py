r"""Stores what teachers say of a run's views, so that students can be distilled without them.

  python pipelines/store_targets.py --config=configs/distill/digits.py --workdir=runs/targets \
      --config.teacher.workdir=runs/teacher [--config.store.epochs=30]
  python pipelines/distill_student.py --config=configs/distill/digits.py --workdir=runs/student \
      --config.targets=runs/targets

The config is that of the distillation: the same seed, data and mixing make the same views; or that
of a pair's training on a locked image tower, whose embeddings are stored. A run that is longer than
what is stored sees it again and again. Running the same command again goes on after the last file
that was finished.
"""

import functools

import jax

from distill.command.launch import launch_training
from distill.config import execution_keys, to_dict, with_defaults
from distill.data import Contents, Store
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.runs.answers import Answers, write_answers
from distill.runs.stored_teachers import describe_teachers, layers_said, views_shown
from distill.runs.storing import StoreTargetsConfig
from distill.runs.students import agree_on_classes, check_teachers, open_splits, view_size
from distill.runs.teachers import (
    fingerprints,
    load_teachers,
    say_scores,
    score,
    shown_as,
)
from distill.tasks.matching.function_matching import FunctionMatching
from distill.train.memory import Knobs, explained
from distill.train.run import open_mesh
from distill.train.workdir import Workdir


def run(config: StoreTargetsConfig, workdir: Workdir, name: str = "store") -> Store:
    """Asks the teachers for every view of the run and writes what they say."""
    config = config.of_views()
    mesh = open_mesh(config)
    splits = open_splits(config, config.models)
    config = config.with_classes(splits)
    students = {
        str(number): model.network().placed(mesh, config.mesh.table)
        for number, model in enumerate(config.models)
    }
    batches = config.batches(len(splits.train))
    teachers, params = load_teachers(config.every_teacher, mesh)
    names, splits, teachers = agree_on_classes(config, students, splits, teachers)
    for student in students.values():
        check_teachers(config, student, teachers)
    config, size = shown_as(config, teachers), view_size(students, teachers)
    answers = Answers(config, FunctionMatching(students["0"], teachers, config.matching), mesh)
    batch_size, store = config.train.batch_size, config.store
    arrays = answers.arrays(params, splits.train.spec, size)
    knobs = Knobs.of(config.train, mesh, remat={})
    with explained(lambda: knobs.advice(prepared=True)):
        scores = score(config, teachers, params, splits)
    say_scores(name, scores, splits)
    contents = Contents(
        examples=batches * batch_size,
        batch_size=batch_size,
        examples_per_file=max(store.examples_per_file // batch_size, 1) * batch_size,
        arrays=arrays,
        about={
            "format": {"dtype": store.dtype, "top_k": store.top_k},
            "views": views_shown(config, config.matching, splits, size),
            "teachers": describe_teachers(
                config.every_teacher, teachers, fingerprints(config.every_teacher, params)
            ),
            "classes": list(names),
            "accuracy": {key: one.accuracy for key, one in scores.items()},
            "images": {key: one.images for key, one in scores.items()},
            "jax": jax.__version__,
            **layers_said(config.matching, teachers),
        },
    )
    workdir.claim(
        to_dict(config),
        may_change=execution_keys(type(config)),
        complete=functools.partial(with_defaults, config),
    )
    with explained(lambda: knobs.advice(prepared=True)):
        answer = functools.partial(answers, params)
        write_answers(name, config, workdir.path, contents, answer, splits, size)
    # The others wait until the primary has written its last file.
    distributed.agree(0)
    stored = sum(file.stat().st_size for file in workdir.path.glob("*.array_record"))
    epochs = contents.examples / len(splits.train)
    say(
        f"{name}: {contents.examples:,} views ({epochs:.4g} epochs) in {contents.files} file(s), "
        f"{stored / 2**20:,.1f} MiB, {contents.record.itemsize:,} bytes each: {workdir.path}"
    )
    return Store(workdir.path)


if __name__ == "__main__":
    launch_training(__doc__, StoreTargetsConfig, run)
