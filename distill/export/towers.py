"""A pair, or one of its towers, as it is exported."""

from typing import Literal

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.export.images import ImageExportable
from distill.export.model import Exportable, Kind
from distill.export.pairs import PairExportable
from distill.export.texts import TextExportable
from distill.nn import PairConfig, Params, VisionNetwork, ZeroShotNetwork
from distill.nn.zero_shot import image_params
from distill.runs.weights import WeightsConfig

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


def open_tower(weights: WeightsConfig, tower: Kind, dtype: Dtype = "float32") -> Exportable:
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
