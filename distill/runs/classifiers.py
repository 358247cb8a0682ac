"""Classifiers trained on labels: what pre-training and fine-tuning train alike."""

import functools
from collections.abc import Callable

from distill.data import Splits
from distill.data.classes import Names
from distill.evaluate.gallery import gallery_of
from distill.metrics import classification_metrics
from distill.nn import Params, VisionNetwork
from distill.runs.evaluations import evaluations, final_evaluation, subject_of
from distill.tasks.classification import Classification, ClassificationConfig
from distill.train.run import RunConfig, plan
from distill.train.trainee import Trainee
from distill.train.workdir import Workdir


def classifier(
    config: RunConfig,
    loss: ClassificationConfig,
    workdir: Workdir,
    network: VisionNetwork,
    splits: Splits,
    class_names: Names,
    initial: Callable[[], Params] | None = None,
) -> Trainee:
    """A network to train on labels, with its task and its evaluations.

    Args:
      config: of the run.
      loss: on labels.
      workdir: of the run.
      network: placed on the mesh.
      splits: the run's images, numbered as `class_names` are.
      class_names: in the order of the network's logits.
      initial: makes the parameters to start from; None draws them.

    Raises:
      ConfigError: for a run that cannot be what its config asks for, before images to evaluate on
        are opened.
      UserError: if what an evaluation needs is missing.
    """
    # Before images to evaluate on are opened.
    planned = plan(config, network, splits)
    measured = functools.partial(classification_metrics, network)
    subject = subject_of(
        config,
        workdir,
        network,
        splits,
        class_names,
        metrics=measured,
        view_metrics=measured,
        view_size=max(network.config.image_shape[:2]),
    )
    return Trainee(
        config=config,
        plan=planned,
        workdir=workdir,
        network=network,
        task=Classification(network, loss),
        evaluations=evaluations(config, subject),
        final=final_evaluation(subject),
        examples=gallery_of(subject, workdir.path, config.train.example_images),
        class_names=class_names,
        initial=initial,
    )
