"""The benchmark's 17 sets of images: their categories, conditions and names of images."""

import dataclasses
import math
import re

CATEGORIES = (
    *("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat", "chair", "clock"),
    *("dog", "elephant", "keyboard", "knife", "oven", "truck"),
)
"""What an observer may answer, in alphabetical order."""
NO_ANSWER = "na"
"""What stands for an answer that was not given; it is wrong."""
HUMAN = re.compile(r"subject-\d+")
"""The names of people; all other observers are models."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A set of images, shown under one or several conditions."""

    name: str
    images: int
    """Trials of an observer."""
    left_out: tuple[str, ...] = ()
    """Conditions, as `condition` spells them, that count in no figure: they are not out of
    distribution, or people have less than 20% right. They are the toolbox model-vs-human's."""
    parametric: bool = True
    """Whether it has conditions."""

    def condition(self, text: str) -> str:
        """One spelling of a condition: files and programs write 3, 3.0 and 3.00, True and true."""
        if not self.parametric:
            return "0"
        try:
            number = float(text)
        except ValueError:
            return text.lower() if text.lower() in ("true", "false") else text
        return text if math.isnan(number) else f"{number:g}"


def _sets() -> dict[str, Dataset]:
    one = {"cue-conflict": 1280, "edge": 160, "silhouette": 160, "sketch": 800, "stylized": 800}
    several = {
        "colour": (1280, "cr"),
        "contrast": (1280, "c100 c03 c01"),
        "eidolonI": (1280, "1-10-10 64-10-10 128-10-10"),
        "eidolonII": (1280, "1-3-10 32-3-10 64-3-10 128-3-10"),
        "eidolonIII": (1280, "1-0-10 16-0-10 32-0-10 64-0-10 128-0-10"),
        "false-colour": (1120, "true"),
        "high-pass": (1280, "inf 0.55 0.45 0.4"),
        "low-pass": (1280, "0 15 40"),
        "phase-scrambling": (1120, "0 150 180"),
        "power-equalisation": (1120, "0"),
        "rotation": (1280, "0"),
        "uniform-noise": (1280, "0 0.6 0.9"),
    }
    found = [Dataset(name=name, images=count, parametric=False) for name, count in one.items()]
    found += [
        Dataset(name=name, images=count, left_out=tuple(left_out.split()))
        for name, (count, left_out) in several.items()
    ]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


DATASETS = _sets()
"""By name, in the order of the names."""


def image_id(name: str) -> str:
    """What an image is called whoever is shown it.

    Names begin with the number of the trial and the observer:
    `0001_cl_s01_cr_oven_40_n04111531_14126.png` → `n04111531_14126.png`,
    `0001_edg_s01_0_dog_00_dog7.png` → `dog7.png`. It is unique within a condition.
    """
    rest, underscore, last = name.rpartition("_")
    if not underscore:
        return name
    before = rest.rpartition("_")[2]
    return f"{before}_{last}" if before.startswith("n0") else last
