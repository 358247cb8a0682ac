"""Heads on frozen models: what a config says of them, and what a run has made."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh

from distill.analysis.depth import NYU
from distill.bounds import Between, Images, NotAll, Positive, Steps, check_fields
from distill.buckets import place_of
from distill.config import resolve
from distill.data import DataConfig
from distill.dense_view import DenseView
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.evaluation_view import EvaluationView
from distill.nn import PairNetwork, Params, VisionNetwork, VisionTransformer, ZeroShotNetwork
from distill.nn.dense import DepthScale, HeadedNetwork
from distill.optim import OptimizerConfig, ScheduleConfig
from distill.parallel import DEFAULT_RULES, RuleTable
from distill.runs.models import checkpoint_step, read_checkpoint, recorded_view
from distill.runs.opened import ModelSource, Opened, open_recorded, without_classifier
from distill.tasks.dense import Dense
from distill.train.run import RunConfig
from distill.train.workdir import read_classes, read_config, read_teachers

TOWER = "tower"
"""What the model that a head is on is called in teachers.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerConfig(ModelSource):
    """The model that stays as it is, whose tokens the head takes."""

    dtype: Literal["float32", "bfloat16"] | None = None
    """Of its parameters and activations; None keeps the dtype of its run."""

    def __post_init__(self):
        super().__post_init__()
        if self.weights is not None and self.weights.zeroshot is not None:
            raise ValueError(
                "weights.zeroshot makes classes of texts, and a head takes tokens alone: leave "
                "zeroshot out"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What every head has in common.

    Raises:
      ValueError: for values out of bounds.
    """

    tokens: DenseView = DenseView()
    """How images are shown to the tower, and which of its tokens the head takes."""
    l2: Positive | None = None
    """Of a head in closed form; None takes the penalty that is best on a tenth of the images."""
    dropout: NotAll = 0.1
    """The share of an image's features that a head in training loses."""
    statistics_images: Images = 1000
    """Of the images to train on, evenly spread, those whose tokens' mean and variance a trained
    head standardises by."""

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationHead(HeadConfig):
    """A head that tells the class of each pixel."""

    task: Literal["segmentation"] = "segmentation"
    learn: Literal["ridge", "logistic", "trained"] = "trained"
    """In closed form, as the evaluation `segmentation` learns it of its images; or step by step, as
    DINOv3's linear heads are."""
    patches: Images = 200_000
    """The most that logistic regression keeps, evenly of the images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthHead(HeadConfig):
    """A head that tells the depth of each pixel."""

    task: Literal["depth"] = "depth"
    learn: Literal["ridge", "trained"] = "trained"
    """In closed form, the logarithm of the depth, as the evaluation `depth` learns it of its
    images; or step by step, weights of fixed bins, as DINOv2's and DINOv3's linear heads are."""
    limits: tuple[Positive, Positive] = NYU
    """Lowest and highest depth, in the data's unit; others neither are learnt from nor count."""
    part: Literal["all", "eigen"] = "all"
    """What of an image counts where it is measured; see the evaluation `depth`."""
    bins: Annotated[int, Between(2, 10**6)] = 256
    """Of a trained head, evenly between the limits."""
    mean_alone: Steps = 100
    """Steps at the beginning whose loss is without its variance."""

    def __post_init__(self):
        super().__post_init__()
        _ = self.scale

    @property
    def scale(self) -> DepthScale:
        """How depths are made of scores."""
        kind = "bins" if self.learn == "trained" else "log"
        return DepthScale(kind=kind, limits=self.limits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadTrainingConfig(RunConfig):
    """Everything that a head depends on.

    Of a head in closed form, optimizer, schedule and train say nothing but how many windows are
    seen at once, train.batch_size.

    Raises:
      ValueError: for evaluations of other things than pixels, or data that a closed form is not
        found of.
    """

    tower: TowerConfig
    head: SegmentationHead | DepthHead
    optimizer: OptimizerConfig = OptimizerConfig(
        name="adam", learning_rate=1e-3, weight_decay=((".*", 1e-6),), clip_norm=None
    )
    schedule: ScheduleConfig = ScheduleConfig(kind="cosine")

    def __post_init__(self):
        super().__post_init__()
        others = [name for name, one in self.evals.items() if not isinstance(one, SplitConfig)]
        if others or self.transfer is not None:
            raise ValueError(
                f"{f'evals.{others[0]}' if others else 'transfer'} measures a model of whole "
                "images, and a head is measured by its pixels: kind=split, of any source of the "
                "same task"
            )
        if self.head.learn == "trained":
            return
        if self.data.mixture or self.data.train_images is not None:
            what = "mixture" if self.data.mixture else "train_images"
            raise ValueError(
                f"data.{what} is of training in steps (head.learn=trained); a closed form takes a "
                'split of data.source, such as data.train_split="train[:500]"'
            )


def frozen_statistics(config: HeadTrainingConfig) -> HeadTrainingConfig:
    """The config of a run that trains a head, whose standardisation stays as it is."""
    kept = (("^(mean|std)$", True),)
    optimizer = config.optimizer
    if optimizer.freeze[:1] == kept:
        return config
    optimizer = dataclasses.replace(optimizer, freeze=(*kept, *optimizer.freeze))
    return dataclasses.replace(config, optimizer=optimizer)


def headed_network(
    base: VisionNetwork, head: SegmentationHead | DepthHead, class_names: tuple[str, ...]
) -> HeadedNetwork:
    """The network of a head on its tower.

    Args:
      base: the tower, as `bare` gives it.
      head: what the config says.
      class_names: of a segmentation.

    Raises:
      UserError: if the tower cannot be shown images so.
    """
    view, tower = head.tokens, base.tower
    height, width = base.config.image_shape[:2]
    if height != width:
        raise UserError(
            f"the tower sees images of {height}×{width} pixels, and windows are square; give "
            "weights of a square image_size"
        )
    try:
        view.check(height, tower.depth, tower.head == "cls")
    except ValueError as error:
        raise UserError(f"config.head.tokens: {error}") from error
    if isinstance(head, SegmentationHead):
        return HeadedNetwork.of(base, view, outputs=len(class_names), class_names=class_names)
    outputs = head.bins if head.scale.kind == "bins" else 1
    return HeadedNetwork.of(base, view, outputs=outputs, depth=head.scale, part=head.part)


def bare(network: VisionNetwork, params: Params) -> tuple[VisionNetwork, Params]:
    """A model's image tower without classifier, and its parameters.

    Args:
      network: of images, or a pair.
      params: of the network.
    """
    if isinstance(network, PairNetwork):
        image = getattr(network.build, "keywords", {}).get("image", VisionTransformer)
        network = VisionNetwork(network.config.image, image, network.placement)
        params = params["image"]
    assert not isinstance(network, ZeroShotNetwork)
    return network.with_tower(num_classes=0), without_classifier(params)


def is_head(recorded: Mapping[str, Any]) -> bool:
    """Whether a run made a head on a model that is in none of its checkpoints."""
    return "head" in recorded and "tower" in recorded


class OpenedHead(NamedTuple):
    """A head on its tower, and its parameters."""

    place: str
    """Workdir."""
    network: HeadedNetwork
    """Placed on the mesh."""
    params: Params
    """`tower` and `head`."""
    view: EvaluationView
    """Whose filter images are resized by."""
    data: DataConfig
    """The run's."""
    step: int
    """Of the checkpoint."""
    tower: Opened
    """As it is where it lies."""


def open_head(
    workdir: Path,
    mesh: Mesh,
    *,
    best: bool = False,
    dtype: str | None = None,
    rules: RuleTable = DEFAULT_RULES,
) -> OpenedHead:
    """Opens the head that a run made, with its tower from where that is.

    Args:
      workdir: of the run.
      mesh: whose devices read their parts of the parameters.
      best: whether to take the weights that did best by `train.keep_best`.
      dtype: of the tower, computed and kept; None takes that in which it was asked.
      rules: where the arrays live on the mesh.

    Raises:
      UserError: if either cannot be read, or the tower is another one by now.
    """
    recorded = read_config(workdir)
    head = _recorded(recorded)
    known = read_teachers(workdir)[TOWER]
    whose = f"the head in {place_of(workdir)} was made on the model"
    tower = open_recorded(known, whose, mesh, rules)
    base, params = bare(tower.network, tower.params)
    if dtype is not None:
        base = base.with_tower(dtype=dtype)
        params = jax.tree.map(lambda x: x.astype(dtype), params)
    network = headed_network(base, head, read_classes(workdir))
    step = checkpoint_step(workdir, best=best)
    read = read_checkpoint(workdir, network.head, step, best=best)
    return OpenedHead(
        place_of(workdir),
        network,
        {"tower": params, "head": read},
        recorded_view(workdir),
        resolve(DataConfig, recorded["data"]),
        step,
        tower,
    )


def _recorded(recorded: Mapping[str, Any]) -> SegmentationHead | DepthHead:
    said = recorded["head"]
    schema = DepthHead if said["task"] == "depth" else SegmentationHead
    return resolve(schema, said)


def task_of(network: HeadedNetwork, head: SegmentationHead | DepthHead, ignore: int) -> Dense:
    """What a head is trained for.

    Args:
      network: placed.
      head: what the config says.
      ignore: of masks, what stands for no class.
    """
    mean_alone = head.mean_alone if isinstance(head, DepthHead) else 0
    return Dense(network, ignore=ignore, dropout=head.dropout, mean_alone=mean_alone)
