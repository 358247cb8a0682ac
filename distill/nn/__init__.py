"""Layers, the scanned encoder, the vision transformer, text towers and pairs."""

from distill.nn.flops import Flops, count_flops, encoder_flops
from distill.nn.network import Network, Params
from distill.nn.pair import LockedPairNetwork, Pair, PairConfig, PairNetwork
from distill.nn.text import TextConfig, TextNetwork, TextOutput, TextTransformer
from distill.nn.vision import VisionNetwork
from distill.nn.vit import LayerTokens, VisionTransformer, ViTConfig, ViTOutput
from distill.nn.zero_shot import ZeroShotNetwork

__all__ = [
    "Flops",
    "LayerTokens",
    "LockedPairNetwork",
    "Network",
    "Pair",
    "PairConfig",
    "PairNetwork",
    "Params",
    "TextConfig",
    "TextNetwork",
    "TextOutput",
    "TextTransformer",
    "ViTConfig",
    "ViTOutput",
    "VisionNetwork",
    "VisionTransformer",
    "ZeroShotNetwork",
    "count_flops",
    "encoder_flops",
]
