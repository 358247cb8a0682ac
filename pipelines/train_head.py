r"""Makes a head for segmentation or depth on a trained model that stays as it is.

  python pipelines/train_head.py --config=configs/head/segmentation.py --workdir=runs/head \
      --config.tower.weights.path=weights/dinov2-base --config.data.source=masks:PATH

The head is a linear map of the tokens of patches, which is all that the run keeps: the model is
read from where it lies whenever the head is used, and refused if it is another one by then.
config.head.learn says how the map is found: ridge or logistic regression, in closed form, or
trained, step by step, as DINOv3's linear heads are. What a run has made is evaluated and exported
like any other, by `distill evaluate` and `distill export`. Running the same command again resumes.
"""

from distill.command.launch import launch_training
from distill.parallel.printed import say
from distill.report.story import finish, introduce
from distill.runs.head_learning import channels_of, head_trainee, open_tower
from distill.runs.heads import HeadTrainingConfig
from distill.train.closed_form import settle
from distill.train.fit import fit_one
from distill.train.run import open_mesh
from distill.train.train_log import train_log
from distill.train.trainee import Trained
from distill.train.workdir import Workdir


def run(
    config: HeadTrainingConfig, workdir: Workdir, name: str = "train_head", *, overview: bool = True
) -> Trained:
    """Makes a head and writes its workdir."""
    with train_log(workdir):
        return _run(config, workdir, name, overview)


def _run(config: HeadTrainingConfig, workdir: Workdir, name: str, overview: bool) -> Trained:
    mesh = open_mesh(config)
    splits = config.data.open_splits(channels=channels_of(config), labelled=False)
    tower = open_tower(config, splits, mesh)
    trainee = head_trainee(tower, workdir, splits)
    side = tower.network.config.image_shape[0]
    say(f"{name}: {config.head.learn} head on {config.tower.source}: {tower.network.shown}")
    introduce(name, trainee.network, splits, mesh, overview)
    if config.head.learn != "trained":
        made = settle(name, trainee, splits=splits, frozen=tower.params)
    else:
        made = fit_one(name, trainee, mesh=mesh, splits=splits, view_size=side, frozen=tower.params)
    return finish(name, made, workdir)


if __name__ == "__main__":
    launch_training(__doc__, HeadTrainingConfig, run)
