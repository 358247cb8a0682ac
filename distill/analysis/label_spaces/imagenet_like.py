"""ImageNet-A, ImageNet-R and ImageNet-Sketch: folders named by WordNet numbers.

Hendrycks et al., "Natural Adversarial Examples", arXiv 1907.07174, and "The Many Faces of
Robustness", arXiv 2006.16241; Wang et al., "Learning Robust Global Representations by Penalizing
Local Predictive Power", arXiv 1905.13549.
"""

from distill.analysis.label_spaces.data_files import read_lines
from distill.analysis.label_spaces.wordnet_folders import of_imagenets_classes

LABEL_SPACES = (
    of_imagenets_classes(
        tuple(map(int, read_lines("imagenet_a_indices.txt"))),
        name="imagenet_a",
        description="ImageNet-A: photographs that a ResNet-50 got wrong, of 200 classes",
        images=7_500,
        crop="aspect75",
    ),
    of_imagenets_classes(
        tuple(map(int, read_lines("imagenet_r_indices.txt"))),
        name="imagenet_r",
        description="ImageNet-R: art, cartoons, toys and other renditions, of 200 classes",
        images=30_000,
    ),
    of_imagenets_classes(
        range(1000),
        name="imagenet_sketch",
        description="ImageNet-Sketch: black and white sketches of all 1,000 classes",
        images=50_889,
    ),
)
