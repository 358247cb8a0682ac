"""Pre-trains a teacher, or any ViT, on labelled images.

  python pipelines/pretrain.py --config=configs/pretrain/digits.py --workdir=runs/teacher

The recipe is that of "Scaling Vision Transformers" (arXiv 2106.04560). Any key of the config can
be overridden: --config.train.batch_size=256. Running the same command again resumes.
"""

from distill.command.launch import launch_training
from distill.data.classes import name_classes
from distill.report.story import finish, introduce
from distill.runs.classifiers import classifier
from distill.runs.models import with_classes
from distill.runs.pretraining import PretrainConfig
from distill.train.fit import fit_one
from distill.train.run import open_mesh
from distill.train.train_log import train_log
from distill.train.trainee import Trained
from distill.train.workdir import Workdir


def run(
    config: PretrainConfig, workdir: Workdir, name: str = "pretrain", *, overview: bool = True
) -> Trained:
    """Trains a classifier and writes its workdir."""
    with train_log(workdir):
        return _run(config, workdir, name, overview)


def _run(config: PretrainConfig, workdir: Workdir, name: str, overview: bool) -> Trained:
    config = config.completed()
    mesh = open_mesh(config)
    splits = config.data.open_splits(channels=config.model.channels)
    splits.check_all_labelled("pre-training")
    config = with_classes(config, len(splits.class_names))
    network = config.model.network().placed(mesh, config.mesh.table)
    names = name_classes("config.model", network.config.num_classes, splits.class_names)
    introduce(name, network, splits, mesh, overview)
    trainee = classifier(config, config.loss, workdir, network, splits, names)
    trained = fit_one(name, trainee, mesh=mesh, splits=splits, view_size=config.model.image_size)
    return finish(name, trained, workdir)


if __name__ == "__main__":
    launch_training(__doc__, PretrainConfig, run)
