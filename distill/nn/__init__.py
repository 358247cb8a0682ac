"""Layers, the scanned encoder and the vision transformer."""

from distill.nn.flops import Flops, count_flops, encoder_flops
from distill.nn.network import Network, Params
from distill.nn.vision import VisionNetwork
from distill.nn.vit import VisionTransformer, ViTConfig, ViTOutput

__all__ = [
    "Flops",
    "Network",
    "Params",
    "ViTConfig",
    "ViTOutput",
    "VisionNetwork",
    "VisionTransformer",
    "count_flops",
    "encoder_flops",
]
