"""A pair, or one of its towers, as it is exported."""

from pathlib import Path
from typing import Literal

from distill.buckets import place_of
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.export.images import ImageExportable
from distill.export.model import Exportable, Tower
from distill.export.pairs import PairExportable
from distill.export.texts import TextExportable
from distill.nn import (
    PairConfig,
    PairNetwork,
    Params,
    TextNetwork,
    TextTransformer,
    VisionNetwork,
    ZeroShotNetwork,
)
from distill.nn.zero_shot import image_params
from distill.parallel import MeshConfig, make_mesh
from distill.runs.models import recorded_model
from distill.runs.opened import open_model, recorded_tokenizer
from distill.runs.weights import WeightsConfig
from distill.train.workdir import read_config
from students.pair import PairModel

Dtype = Literal["float32", "bfloat16"]


def image_tower(
    image: VisionNetwork,
    pair: PairConfig,
    params: Params,
    view: EvaluationView,
    dtype: Dtype = "float32",
) -> ImageExportable:
    """A pair's image tower, whose embedding is that which texts are compared with.

    Args:
      image: the tower, not placed.
      pair: the pair.
      params: of the pair; those of the text tower may be missing.
      view: what of an image it is shown.
      dtype: of the export.
    """
    return ImageExportable(
        network=ZeroShotNetwork.of(image, pair, 0),
        params=image_params(params),
        class_names=(),
        view=view,
        dtype=dtype,
    )


def open_run_tower(workdir: Path, tower: Tower, *, best: bool, dtype: Dtype) -> Exportable:
    """The pair that a run trained, or a tower of it.

    Args:
      workdir: of the run.
      tower: which; "pair" is both.
      best: whether to take the run's best weights instead of its last.
      dtype: of the export.

    Raises:
      UserError: if the run trained no pair, or nothing says how texts become its tokens.
    """
    model = recorded_model(workdir)
    if not isinstance(model, PairModel):
        raise UserError(f"--tower is of pairs, and the model in {place_of(workdir)} is none")
    opened = open_model(workdir, make_mesh(MeshConfig(data=1, fsdp=-1)), best=best, dtype="float32")
    network, params = opened.network, opened.params
    assert isinstance(network, PairNetwork)
    if tower == "image":
        image = model.towers[0].network()
        return image_tower(image, network.config, params, opened.view, dtype)
    tokenizer = recorded_tokenizer(read_config(workdir))
    if tokenizer is None:
        raise UserError(
            f"nothing says how texts become tokens of the pair in {place_of(workdir)}; "
            "--tower=image needs none"
        )
    if tower == "text":
        text = TextNetwork(network.config.text, TextTransformer)
        return TextExportable(network=text, params=params["text"], tokenizer=tokenizer, dtype=dtype)
    return PairExportable(
        network=network, params=params, tokenizer=tokenizer, view=opened.view, dtype=dtype
    )


def open_tower(weights: WeightsConfig, tower: Tower, dtype: Dtype = "float32") -> Exportable:
    """A published pair, or a tower of it.

    Args:
      weights: of a pair; for the text tower also of one alone.
      tower: which; "pair" is both.
      dtype: of the export.

    Raises:
      UserError: if it cannot be read, or there is no such tower or no vocabulary for it.
    """
    if tower == "text":
        if weights.image_size:
            raise UserError("--image_size is of images, and --tower=text takes none")
        text, tokenizer = weights.open_text()
        return TextExportable(
            network=text.network, params=text.read(), tokenizer=tokenizer, dtype=dtype
        )
    whole = weights.with_text()
    pair = whole.open("float32")
    if tower == "image":
        params = {"image": pair.image.read()} | pair.read_joint()
        return image_tower(pair.image.network, pair.network.config, params, pair.view, dtype)
    return PairExportable(
        network=pair.network,
        params=pair.read(),
        tokenizer=whole.open_tokenizer(pair),
        view=pair.view,
        dtype=dtype,
    )
