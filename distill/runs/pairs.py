"""Pairs that learn from images and their captions: what a config says, and what is trained."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from distill.config import how_it_runs, resolve
from distill.data import Splits, Store
from distill.data.examples import STORED
from distill.errors import UserError
from distill.evaluate.distillation import distillation_metrics
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.retrieval import RetrievalConfig
from distill.nn import PairNetwork, ViTConfig
from distill.nn.adapt import CLASSIFIERS
from distill.nn.family import ModelConfig
from distill.nn.variants import VariantConfig
from distill.paths import LocalPath
from distill.runs.evaluations import build, evaluations, subject_of
from distill.runs.locked import WithTower
from distill.runs.models import recorded_model
from distill.runs.opened import describe_model
from distill.runs.teachers import TEACHER, TeacherConfig
from distill.subject import Teacher
from distill.tasks.contrastive import Contrastive, ContrastiveConfig
from distill.tasks.matching.config import LossWeights, MatchingConfig
from distill.train.run import RunConfig, plan
from distill.train.trainee import Trainee
from distill.train.workdir import Workdir
from students.pair import PairModel
from students.vit import named

EMBEDDINGS = MatchingConfig(losses=LossWeights(kl=0.0, embedding_cosine=1.0), mixup=0.0)
"""What of a locked image tower is stored, and of which views, as `store_targets` has it."""

STORED_EMBEDDING = f"{STORED}embedding/{TEACHER}"
"""What it is called in a batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTrainingConfig(RunConfig):
    """Everything that the training of a pair depends on.

    Raises:
      ValueError: unless there is one image tower, trained or locked, and a text tower.
    """

    model: PairModel
    """The pair. Without an `image`, its image tower is the teacher's and stays as it is: only what
    is of texts is trained (LiT, arXiv 2111.07991)."""
    teacher: TeacherConfig | None = None
    """The image tower that stays as it is."""
    targets: LocalPath | None = None
    """Directory that pipelines/store_targets.py wrote of this config: the teacher's embeddings, in
    place of asking it. With `teacher`, it must be the one that was asked."""
    loss: ContrastiveConfig = ContrastiveConfig()
    evals: dict[str, EvaluationConfig] = how_it_runs(factory=lambda: {"val": RetrievalConfig()})

    def __post_init__(self):
        super().__post_init__()
        given = self.teacher is not None or self.targets is not None
        if self.model.text is None:
            raise ValueError(
                "model.text is missing; say what its text tower is: model.text.variant=B"
            )
        if self.model.image is not None and given and not self.model.locked:
            raise ValueError(
                "give model.image, an image tower to train, or teacher, one that stays as it is; "
                "not both"
            )
        if self.model.image is None and not given:
            raise ValueError(
                "give model.image, an image tower to train, or teacher.workdir or "
                "teacher.weights.path, one that stays as it is"
            )
        if self.teacher is not None and self.teacher.quantize is not None:
            raise ValueError(
                "teacher.quantize is of a teacher that a student learns from; this one becomes a "
                "part of the pair, which has its weights as they are"
            )
        if self.data.captions is None:
            raise ValueError(
                "data.captions is missing: data.captions.path names the vocabulary that makes "
                "tokens of captions, data.captions.family whose rule does"
            )
        length, ours = self.data.captions.length, self.model.text.length
        if length != ours:
            raise ValueError(
                f"data.captions.length is {length} and model.text.length {ours}; they are one"
            )
        if self.loss.kind == "sigmoid" and not self.model.bias:
            raise ValueError(
                "loss.kind=sigmoid needs a pair with a bias: set model.bias=true, or "
                "loss.kind=softmax"
            )

    @property
    def every_teacher(self) -> dict[str, TeacherConfig]:
        """The image tower that stays as it is, by name; none where only its embeddings are."""
        return {TEACHER: self.teacher} if self.teacher else {}

    def with_tower(self) -> Self:
        """The config with an image tower said in full.

        Raises:
          UserError: if the teacher, or what was stored of it, is not there or no ViT.
        """
        if self.model.image is not None:
            return self
        return self.locked_to(
            tower_of(self.teacher) if self.teacher else _stored_tower(self.targets)
        )

    def locked_to(self, image: VariantConfig) -> Self:
        """The config with this image tower, which stays as it is."""
        model = dataclasses.replace(self.model, image=image, locked=True)
        return dataclasses.replace(self, model=model)


def tower_of(teacher: TeacherConfig) -> VariantConfig:
    """What image tower a teacher is.

    Raises:
      UserError: if it cannot be read, is no vision transformer, or is to see larger images.
    """
    if teacher.image_size is not None:
        raise UserError(
            "an image tower that texts are trained on sees images as it was trained to; leave "
            "config.teacher.image_size out"
        )
    place = teacher.place
    if isinstance(place, Path):
        return image_of(recorded_model(place, dtype=teacher.dtype), teacher.source)
    network = describe_model(place, dtype=teacher.dtype).network
    return dataclasses.replace(named(network.config), num_classes=0)


def _stored_tower(targets: str | None) -> VariantConfig:
    assert targets is not None
    ((_, known),) = Store(Path(targets)).contents.about["teachers"].items()
    model = known["model"]
    if "family" in model:
        return image_of(resolve(ModelConfig, model), known["source"])
    return dataclasses.replace(named(resolve(ViTConfig, model)), num_classes=0)


def image_of(model: Any, source: str) -> VariantConfig:
    """A model as an image tower, without a classifier.

    Args:
      model: its `ModelConfig`.
      source: where it is.

    Raises:
      UserError: if it is no vision transformer.
    """
    if not isinstance(model, VariantConfig):
        raise UserError(f"the model in {source} is no vision transformer of one image tower")
    return dataclasses.replace(model, num_classes=0)


def pair_trainee(
    config: PairTrainingConfig,
    workdir: Workdir,
    pair: PairNetwork,
    splits: Splits,
    tower: Teacher | None,
    *,
    stored: bool,
) -> Trainee:
    """A pair to train, with its task and its evaluations.

    Args:
      config: of the run, its image tower said in full.
      workdir: of the run.
      pair: both towers, placed on the mesh.
      splits: the images.
      tower: the image tower that stays as it is; None trains it too.
      stored: whether only its embeddings are there.

    Raises:
      ConfigError: for a run that cannot be what its config asks for.
      UserError: if what an evaluation needs is missing.
    """
    network = pair
    if tower is not None:
        network = pair.locked().placed(pair.mesh, config.mesh.table)
    planned = plan(config, network, splits)
    subject = subject_of(
        config,
        workdir,
        pair,
        splits,
        (),
        metrics=lambda among: distillation_metrics(pair, {}, among=among),
        view_metrics=None,
        view_size=max(pair.config.image_shape[:2]),
    )
    recurring, final = [], None
    if not stored:
        recurring = evaluations(config, subject)
        if config.data.test_split is not None:
            final = build("test", RetrievalConfig(split=config.data.test_split), subject)
    if tower is not None:
        recurring = [
            one._replace(evaluate=WithTower(one.evaluate, CLASSIFIERS)) for one in recurring
        ]
        final = WithTower(final, CLASSIFIERS) if final else None
    return Trainee(
        config=config,
        plan=planned,
        workdir=workdir,
        network=network,
        task=Contrastive(
            network,
            config.loss,
            tower=None if tower is None or stored else tower.network,
            stored=STORED_EMBEDDING if stored else None,
        ),
        evaluations=recurring,
        final=final,
    )
