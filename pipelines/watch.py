r"""Shows a run while it trains, on a page that brings itself up to date.

  distill watch runs/student
  distill watch --workdir=runs/student --port=8200

The page is served on 127.0.0.1 alone, and the run's files are only read. Of a run on another
machine, start it there and let SSH bring the page here: ssh -L 8123:127.0.0.1:8123 HOST. Ctrl-C
ends it.
"""

from pathlib import Path

from absl import flags

from distill.bounds import Port
from distill.command.flags import define_number, define_path, parse
from distill.command.launch import launch
from distill.errors import UserError
from distill.paths import in_bucket, local_or_bucket_path

FLAGS = flags.FlagValues()
define_path(
    "workdir",
    "Of the run, or of several students; --workdir= may be left out.",
    FLAGS,
    read=local_or_bucket_path,
)
define_number(
    "port", "Port of the page; if not given, 8123, or a free one where that is in use.", FLAGS, Port
)


def main(arguments: list[str]) -> None:
    """Serves the page."""
    if not arguments:
        raise UserError("give a workdir: distill watch WORKDIR\nSee --help")
    first, *rest = arguments
    given = first if first.startswith("-") else f"--workdir={first}"
    parse(FLAGS, [given, *rest], ("workdir",))
    # Whoever mistypes a flag need not wait for what draws.
    from distill.report.live import Server, serve

    place = _place(FLAGS.workdir)
    server = Server(place, FLAGS.port)
    if not place.exists():
        print(f"nothing is in {place} yet: the page waits for a run there", flush=True)
    serve(server, lambda text: print(text, flush=True))


def _place(workdir: str) -> Path:
    """Where the run's files are on this machine.

    Raises:
      UserError: if they are not here, or a file is in their place.
    """
    place = Path(workdir)
    if in_bucket(workdir):
        from distill.buckets import Copy

        place = Copy(workdir).directory
        if not place.is_dir():
            raise UserError(
                f"{workdir} is not worked on on this machine, and what a bucket holds is not "
                "watched: type this on the machine of the run, or distill inspect "
                f"{workdir} to see how far it is"
            )
    if place.exists() and not place.is_dir():
        raise UserError(f"{place} is a file; give the workdir of a run")
    return place


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
