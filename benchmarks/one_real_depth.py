"""What do frozen tokens say of the one photograph with measured depth that a package brings along?

  pip install scikit-image
  python benchmarks/one_real_depth.py runs/teacher runs/student … [--workdir=runs/one_real_depth]

scikit-image's wheel holds *Motorcycle* of the Middlebury stereo set (Scharstein et al., GCPR 2014):
a left image of 500×741 pixels and its disparity. The left part of it is learnt from and the right
part predicted, in tiles, with 41 columns between them that neither has. It is one scene: a check
that real depth goes through, and hardly a measure of a model. Writes a page as `distill compare`
does. Nothing of the image is shipped here.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from distill.evaluate.depth import DepthConfig
from distill.paths import path_argument
from distill.report.compared import rows, write_comparison
from distill.runs.compared import compare, named_models
from distill.terminal import accept_any_text, text_table

# Of the image as scikit-image has it: focal length in pixels, base line in metres, offset of
# disparities in pixels.
FOCAL, BASE_LINE, OFFSET = 994.978, 0.193001, 31.086
COLUMNS = {"train": (0, 400), "test": (441, 741)}
TILE = 100


def depth_of(disparity: np.ndarray) -> np.ndarray:
    """Metres, float32, of disparities in pixels; NaN where none is known."""
    known = np.isfinite(disparity)
    metres = FOCAL * BASE_LINE / (np.where(known, disparity, 0) + OFFSET)
    return np.where(known, metres, np.nan).astype(np.float32)


def write_tiles(image: np.ndarray, depth: np.ndarray, root: Path) -> None:
    """Writes both parts in tiles, as `depth:ROOT` reads them."""
    for split, (first, end) in COLUMNS.items():
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        for top in range(0, len(image) - TILE + 1, TILE):
            for left in range(first, end - TILE + 1, TILE):
                tile = np.s_[top : top + TILE, left : left + TILE]
                name = folder / f"{top:03}_{left:03}"
                Image.fromarray(image[tile]).save(name.with_suffix(".png"))
                np.save(name.with_suffix(".npy"), depth[tile])


def main() -> None:
    """Runs what the arguments ask for."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="runs or published weights, as PATH or NAME=PATH")
    parser.add_argument("--workdir", type=path_argument, default=Path("runs/one_real_depth"))
    arguments = parser.parse_args()
    package = find_spec("skimage")
    if package is None or package.origin is None:
        parser.error("the photograph is in scikit-image: pip install scikit-image")
    shipped = Path(package.origin).parent / "data"
    with np.load(shipped / "motorcycle_disp.npz") as held:
        depth = depth_of(held["arr_0"])
    image = np.asarray(Image.open(shipped / "motorcycle_left.png").convert("RGB"))
    root = arguments.workdir / "motorcycle"
    write_tiles(image, depth, root)
    # Nearest 2.1 metres, farthest 5.
    evals = {
        "depth": DepthConfig(
            source=f"depth:{root.absolute()}",
            train_split="train",
            test_split="test",
            limits=(1.0, 10.0),
        )
    }
    result = compare(named_models(arguments.models), evals, arguments.workdir)
    header, lines = rows(result)
    print(text_table(header, [[cell.replace("\n", " ") for cell in line] for line in lines]))
    print(write_comparison(result, arguments.workdir))


if __name__ == "__main__":
    main()
