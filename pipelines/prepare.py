r"""Writes a source once in a form that training reads faster, with the same pixels to the bit.

  distill prepare folder:/data/imagenet --output=/fast/imagenet
  distill prepare tfds:imagenet2012 --output=/fast/imagenet --split=train,validation --workers=32
  distill prepare folder:/data/imagenet --output=/fast/imagenet --verify
  distill pretrain … --config.data.source=prepared:/fast/imagenet

JPEGs are given restart markers, without loss, so that only the part that a training view shows is
decoded; files of other kinds stay as they are, and images that are in no files become PNG. Labels,
names, classes, splits and their slices are the source's (docs/data.md). The same command goes on
where it was interrupted, writes anew what is missing, and does nothing where all is done.
"""

import functools
import sys
from pathlib import Path

from absl import flags

from distill.bounds import Pixels, Workers
from distill.command.flags import define_number, define_path, define_source, parse
from distill.command.host import launch_host
from distill.data.fast import MAX_PIXELS
from distill.errors import UserError
from distill.paths import local_or_remote_path

FLAGS = flags.FlagValues()
define_source("source", "What to prepare; --source= may be left out.", FLAGS)
define_path("output", "Directory to write, which the source is read from as prepared:PATH.", FLAGS)
flags.DEFINE_list(
    "split",
    None,
    "Splits to write, with commas between them; those of train, validation and test that there are "
    "if not given.",
    flag_values=FLAGS,
)
define_number("workers", "Processes; one for each core if not given.", FLAGS, Workers)
flags.DEFINE_bool(
    "restarts", True, "Restart markers; without them files stay as they are.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "shards",
    "array_record",
    ["array_record", "tar"],
    "Kind of files: ArrayRecord, of which each record has a checksum, or tar, which is also read "
    "from a bucket.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "verify",
    None,
    ["sample", "all"],
    "Then compare all checksums, and the pixels of 1,000 images of each split (--verify) or of all "
    "of them (--verify=all), with the source.",
    flag_values=FLAGS,
)
define_path(
    "data_dir",
    "Where TFDS keeps its data sets; TFDS's default if not given.",
    FLAGS,
    read=local_or_remote_path,
)

define_number(
    "max_pixels",
    "Of an image; one that declares more is stored as it is, and counts as corrupt.",
    FLAGS,
    Pixels,
    MAX_PIXELS,
)

say = functools.partial(print, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Prepares the source that the arguments name."""
    if not arguments:
        raise UserError("give a source: distill prepare folder:PATH --output=DIR\nSee --help")
    first, *rest = ("--verify=sample" if one == "--verify" else one for one in arguments)
    first = first if first.startswith("-") else f"--source={first}"
    parse(FLAGS, [first, *rest], ("source", "output"))
    from distill.data.preparing import Preparation, prepare, verify

    preparation = Preparation(
        source=FLAGS.source,
        output=Path(FLAGS.output),
        splits=tuple(FLAGS.split or ()),
        data_dir=FLAGS.data_dir,
        restarts=FLAGS.restarts,
        form=FLAGS.shards,
        workers=FLAGS.workers,
        max_pixels=FLAGS.max_pixels,
    )
    manifest = prepare(preparation, say)
    for name, split in manifest.splits.items():
        size = sum(shard.size for shard in split.shards)
        corrupt = f", {split.corrupt:,} corrupt" if split.corrupt else ""
        print(
            f"{name}: {split.images:,} images in {len(split.class_names):,} classes, "
            f"{split.marked:,} with restart markers{corrupt}, {size / 2**20:,.1f} MiB in "
            f"{len(split.shards):,} shard(s)"
        )
    if FLAGS.verify:
        compared = verify(preparation, say, all_images=FLAGS.verify == "all")
        print(f"verified: all checksums, and {compared:,} images beside their source")
    print(f"--config.data.source=prepared:{preparation.output}")


if __name__ == "__main__":
    launch_host(__doc__, FLAGS, main)
