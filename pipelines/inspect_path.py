"""Says what a path holds: a run, a checkpoint, weights, stored targets, or an export.

  distill inspect runs                     what lies in it
  distill inspect runs/student
  distill inspect gs://bucket/runs/student
  distill inspect runs/student/checkpoints
  distill inspect runs/student/checkpoints/10
  distill inspect runs/student/export/1
  distill inspect model.safetensors

Shapes, parameters, step, lineage and signatures, read from descriptions and headers: no model is
loaded, no parameter is read but the scale and bias of a published pair, and nothing is unpickled.
"""

from absl import flags

from distill.buckets import local
from distill.command.flags import define_path, parse
from distill.command.launch import launch
from distill.errors import UserError
from distill.inspect.path import tell
from distill.paths import local_or_bucket_path

FLAGS = flags.FlagValues()
define_path("path", "What to look at; --path= may be left out.", FLAGS, read=local_or_bucket_path)


def main(arguments: list[str]) -> None:
    """Prints what the path holds."""
    if not arguments:
        raise UserError("give a path: distill inspect PATH")
    first, *rest = arguments
    parse(FLAGS, [first if first.startswith("-") else f"--path={first}", *rest], ("path",))
    print(tell(local(FLAGS.path)))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
