"""ImageNet-v2: images chosen anew, in folders named by the numbers of classes.

Recht et al., "Do ImageNet Classifiers Generalize to ImageNet?", arXiv 1902.10811.
"""

from distill.analysis.label_spaces.data_files import imagenet_numbers
from distill.analysis.label_spaces.label_space import NoClass, folders, wnid_folder
from distill.analysis.label_spaces.wordnet_folders import by_folder, of_imagenets_classes


def _by_number(name: str) -> tuple[int]:
    # Others have packed the images by WordNet number.
    if wnid_folder(name) is not None:
        return by_folder(imagenet_numbers(), name)
    number = next((int(folder) for folder in folders(name) if _is_number(folder)), None)
    if number is None:
        raise NoClass("expected it in a folder named 0 to 999, or such as n01440764")
    if number >= len(imagenet_numbers()):
        raise ValueError(f"its folder is {number}; expected one named 0 to 999")
    return (number,)


def _is_number(folder: str) -> bool:
    return folder.isascii() and folder.isdecimal()


LABEL_SPACES = tuple(
    of_imagenets_classes(
        range(1000),
        name=name,
        description=f"ImageNet-v2, {variant}",
        accepted=_by_number,
        images=10_000,
        per_class=10,
    )
    for name, variant in {
        "imagenet_v2": "matched-frequency, the one that is usually meant",
        "imagenet_v2_threshold": "threshold-0.7",
        "imagenet_v2_topimages": "topimages",
    }.items()
)
