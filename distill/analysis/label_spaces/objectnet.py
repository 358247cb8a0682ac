"""ObjectNet: everyday things from unusual sides, some of which are of ImageNet's classes.

Barbu et al., "ObjectNet: A large-scale bias-controlled dataset for pushing the limits of object
recognition models", NeurIPS 2019. Its terms allow no training or tuning on it.
"""

import functools

from distill.analysis.label_spaces.data_files import imagenet_wnids, read_data
from distill.analysis.label_spaces.label_space import LabelSpace, NoClass, folders

BORDER = 2
"""Pixels at each side of an image: a red border, as wide as compression smears it."""


@functools.cache
def _classes() -> dict[str, tuple[int, ...]]:
    """The numbers of ImageNet's classes that each folder's things may be taken for."""
    labels = read_data("folder_to_objectnet_label.json")
    # The official table counts labels, not folders, in the order of their names.
    ids = {label: number for number, label in enumerate(sorted(labels.values()))}
    found: dict[int, list[int]] = {}
    for number, objectnet in read_data("imagenet_pytorch_id_to_objectnet_id.json").items():
        found.setdefault(objectnet, []).append(int(number))
    return {folder: tuple(found.get(ids[label], ())) for folder, label in sorted(labels.items())}


def _by_folder(name: str) -> tuple[int, ...]:
    folder = next((one for one in folders(name) if one in _classes()), None)
    if folder is None:
        raise NoClass("expected it in one of ObjectNet's 313 folders, such as alarm_clock")
    return (_scored().index(folder),) if _classes()[folder] else ()


@functools.cache
def _scored() -> tuple[str, ...]:
    return tuple(folder for folder, numbers in _classes().items() if numbers)


LABEL_SPACES = (
    LabelSpace(
        name="objectnet",
        description="ObjectNet: things from unusual sides; the 113 of its 313 classes that "
        "ImageNet has",
        vocabulary=imagenet_wnids(),
        class_names=_scored(),
        members=tuple(_classes()[folder] for folder in _scored()),
        accepted=_by_folder,
        images=18_574,
        by_label=False,
        crop="aspect75",
        terms="ObjectNet is for testing alone: its terms forbid training and tuning on it",
        border=BORDER,
    ),
)
