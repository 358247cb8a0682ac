"""preprocessor_config.json, by which Hugging Face's image processors do what an evaluation does."""

from typing import Any

from PIL import Image

from distill.evaluation_view import EvaluationView
from distill.export.torch_weights import per_channel
from distill.nn import VisionNetwork


def fed_size(network: VisionNetwork, view: EvaluationView) -> tuple[int, int]:
    """Height and width that a model is fed, with the rows and columns that no patch reaches."""
    height, width, _ = network.config.image_shape
    return height + view.unseen, width + view.unseen


def processor_config(
    network: VisionNetwork, view: EvaluationView, squashing: str = "ViTImageProcessor"
) -> dict[str, Any]:
    """What is done to images, as transformers' processors read it.

    Args:
      network: what sees them.
      view: what of them it is shown.
      squashing: the class of processor that resizes, and cuts nothing.
    """
    height, width = fed_size(network, view)
    channels, normalisation = network.config.channels, per_channel(network)
    side = view.resized(height, height, height)[0]
    # Of each class what all releases of transformers do: ViT's cuts nothing in some of them.
    if view.resize == "shortest":
        kind, size = "CLIPImageProcessor", {"shortest_edge": side}
    else:
        kind = squashing if view.crop == 1 else "DeiTImageProcessor"
        size = {"height": side, "width": side}
    cut = {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    return {
        "image_processor_type": kind,
        "do_convert_rgb": channels == 3,
        "do_resize": True,
        "size": size,
        "resample": int(Image.Resampling[view.filter.upper()]),
        **({} if kind == squashing else cut),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": normalisation["mean"],
        "image_std": normalisation["std"],
    }
