r"""Trains an image tower and a text tower on images and their captions, or a text tower alone.

  python pipelines/train_pair.py --config=configs/pretrain/lit_coco.py --workdir=runs/pair \
      --config.teacher.weights.path=weights/vit-large --config.data.captions.path=tokenizer.json

Each image is to find its text among the batch's, and each text its image: CLIP's loss
(arXiv 2103.00020) or SigLIP's (arXiv 2303.15343). With config.teacher, a trained image tower, that
tower stays as it is (LiT, arXiv 2111.07991); with config.targets, its embeddings are read that
pipelines/store_targets.py wrote of the same config, and the tower is not in memory. Running the
same command again resumes.
"""

import dataclasses
from pathlib import Path

from distill.command.launch import launch_training
from distill.data import Store
from distill.parallel.printed import say
from distill.report.story import finish, introduce
from distill.runs.pairs import EMBEDDINGS, PairTrainingConfig, pair_trainee
from distill.runs.stored_teachers import check_store, describe_teachers, stored_teachers
from distill.runs.teachers import TEACHER, fingerprints, load_teachers, shown_as
from distill.train.fit import fit_one
from distill.train.run import open_mesh
from distill.train.train_log import train_log
from distill.train.trainee import Trained
from distill.train.workdir import Workdir


def run(
    config: PairTrainingConfig, workdir: Workdir, name: str = "train_pair", *, overview: bool = True
) -> Trained:
    """Trains a pair and writes its workdir."""
    with train_log(workdir):
        return _run(config, workdir, name, overview)


def _run(config: PairTrainingConfig, workdir: Workdir, name: str, overview: bool) -> Trained:
    config = config.with_tower()
    mesh = open_mesh(config)
    splits = config.data.open_splits(channels=config.model.channels)
    store = None if config.targets is None else Store(Path(config.targets))
    if store is None:
        teachers, params = load_teachers(config.every_teacher, mesh)
        named = config.every_teacher
        known = describe_teachers(named, teachers, fingerprints(named, params))
    else:
        teachers, params = stored_teachers(store, config.every_teacher, mesh), {}
        known = store.contents.about["teachers"]
    config, tower = shown_as(config, teachers), teachers.get(TEACHER)
    pair = config.model.build().placed(mesh, config.mesh.table)
    size = max(pair.config.image_shape[:2])
    if store is not None:
        check_store(store, config, EMBEDDINGS, splits, size)
        say(f"{name}: nothing is evaluated on the way, as the image tower is not there")
    trainee = pair_trainee(config, workdir, pair, splits, tower, stored=store is not None)
    introduce(name, trainee.network, splits, mesh, overview)
    trained = fit_one(
        name,
        dataclasses.replace(trainee, teachers=known),
        mesh=mesh,
        splits=splits,
        view_size=size,
        frozen=params.get(TEACHER),
        store=store,
    )
    return finish(name, trained, workdir)


if __name__ == "__main__":
    launch_training(__doc__, PairTrainingConfig, run)
