"""Lists the configs that come with the project, and what each is.

  distill configs

Each is known by its name from any directory: `distill pretrain --config=pretrain/folder …`.
"""

from absl import flags

from distill.command.flags import parse
from distill.command.launch import launch
from distill.shipped import headline, shipped_configs

FLAGS = flags.FlagValues()


def main(arguments: list[str]) -> None:
    """Prints a line for each."""
    parse(FLAGS, arguments)
    files = shipped_configs()
    width = max(map(len, files))
    for name, file in files.items():
        print(f"{name:<{width}}  {headline(file)}")


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
