"""Exports a trained model to SavedModel.

  python pipelines/export.py --workdir=runs/student [--output=DIR] [--best]

Writes DIR/1, DIR/2, … (TF Serving's layout), each checked against JAX before it appears.
"""

from pathlib import Path

import numpy as np
from absl import flags

from distill.config import resolve
from distill.data import DataConfig, Source
from distill.data.examples import readable_views
from distill.export.saved_model import export_saved_model
from distill.parallel import MeshConfig, make_mesh
from distill.train.workdir import read_config
from pipelines.launch import launch, parse
from pipelines.models import load_model

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Of the run to export.", flag_values=FLAGS)
flags.DEFINE_string(
    "output", None, "Directory of the versions; WORKDIR/export if not given.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "best", False, "The weights kept by config.train.keep_best, not the last.", flag_values=FLAGS
)


def run(workdir: Path, output: Path | None = None, best: bool = False) -> tuple[Path, float]:
    """Exports the newest checkpoint; returns the version and the largest difference of a logit.

    Args:
      workdir: of the run.
      output: directory of the versions; None takes WORKDIR/export.
      best: whether to take the run's best weights instead of its last.
    """
    recorded = read_config(workdir)
    # In float32, whatever the run computed in: a server's CPU gains nothing from bfloat16.
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    network, params = load_model(workdir, mesh, best=best, dtype="float32")
    data = resolve(DataConfig, recorded["data"])
    images = _samples(data, network.config.channels)
    # A student may have been distilled without labels.
    names = images.class_names or tuple(map(str, range(network.config.num_classes)))
    size = network.config.image_shape[0]
    samples = np.stack([e["image"] for e in readable_views(images, data.view, size, most=64)])
    sigmoid = recorded.get("loss", {}).get("kind") == "sigmoid"
    version, difference = export_saved_model(
        network,
        params,
        names,
        output or workdir / "export",
        activation="sigmoid" if sigmoid else "softmax",
        samples=samples,
    )
    print(f"exported {version}; logits differ from JAX by at most {difference:.1e}")
    return version, difference


def _samples(data: DataConfig, channels: int) -> Source:
    split = data.test_split or data.validation_split
    if split is None:
        return data.open(data.train_split, channels=channels)
    return data.open_evaluation(split, channels=channels)


def main(arguments: list[str]) -> None:
    """Exports what the flags name."""
    parse(FLAGS, arguments, required=("workdir",))
    run(Path(FLAGS.workdir), Path(FLAGS.output) if FLAGS.output else None, FLAGS.best)


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
