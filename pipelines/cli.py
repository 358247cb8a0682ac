"""The command `distill`: pre-train a teacher, distil a student, evaluate and export it.

  distill auto             DATA --teacher=PATH               all of it in a line: chosen, said, run
  distill pretrain         --config=FILE --workdir=DIR      pre-train a teacher, or any ViT
  distill train_pair       --config=FILE --workdir=DIR      images and texts: CLIP, SigLIP, LiT
  distill distill_student  --config=FILE --workdir=DIR      distil a student from a teacher
  distill store_targets    --config=FILE --workdir=DIR      teachers' answers, kept for later
  distill train_head       --config=FILE --workdir=DIR      segmentation, depth, on a frozen model
  distill finetune         --config=FILE --workdir=DIR      fine-tune: classes, resolution
  distill watch            DIR                              a run while it trains, on a page
  distill evaluate         --workdir=DIR                    accuracy, or what features are good for
  distill predict          MODEL IMAGE…                     classes of images, printed or in a file
  distill compare          MODEL MODEL … --config=FILE      what students retain of a teacher
  distill human_alignment  --raw_data=DIR                   models beside people, by their trials
  distill fairness         --table=FILE --group=COLUMN      how groups fare by anybody's scores
  distill export           --workdir=DIR                    a trained model for other programs
  distill inspect          PATH                             what a run, weights or export are
  distill plan             --config=FILE --topology=SLICE   memory and time of a run elsewhere
  distill shapefinder      --topology=SLICE --widths=LIST --depths=LIST
                                                            the largest models that fit a TPU
  distill scaling_study    --config=FILE --workdir=DIR      error against compute, fitted
  distill prepare          SOURCE --output=DIR              images, written once to be read faster
  distill train_tokenizer  SOURCE --output=FILE             a vocabulary, learnt from captions
  distill configs                                           the configs that --config knows by name
  distill demo                                              all of it on digits, in minutes

`distill COMMAND --help` lists the flags and config keys of a command.
"""

import difflib
import runpy
import sys

from distill.command.entry import interruptible
from distill.terminal import accept_any_text

COMMANDS = (
    "auto",
    "pretrain",
    "train_pair",
    "distill_student",
    "store_targets",
    "train_head",
    "finetune",
    "watch",
    "evaluate",
    "predict",
    "compare",
    "human_alignment",
    "fairness",
    "export",
    "inspect",
    "plan",
    "shapefinder",
    "scaling_study",
    "prepare",
    "train_tokenizer",
    "configs",
    "demo",
)

# Where the module has another name: a script's directory comes first among those to import from,
# so pipelines/inspect.py and pipelines/configs.py would be found in place of others of that name.
MODULES = {"inspect": "inspect_path", "configs": "list_configs"}

_HELP = (__doc__ or "").strip()

# What other programs call what a command does.
_ELSEWHERE = {
    "train": "pretrain",
    "distil": "distill_student",
    "distill": "distill_student",
    "eval": "evaluate",
    "test": "evaluate",
    "validate": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "convert": "export",
    "fine_tune": "finetune",
    "info": "inspect",
    "show": "inspect",
    "list": "configs",
}


def nearest_command(name: str) -> str | None:
    """The command that a word which is none resembles, or that has it as a part."""
    part = next((one for one in COMMANDS if name in one.split("_")), None)
    near = difflib.get_close_matches(name, COMMANDS, 1)
    return _ELSEWHERE.get(name) or part or next(iter(near), None)


def main() -> None:
    """Runs `pipelines.COMMAND` as if it had been called as a module."""
    accept_any_text()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_HELP)
        sys.exit(0 if arguments else 2)
    command = arguments[0].replace("-", "_")
    if command not in COMMANDS:
        near = nearest_command(command)
        guess = f"; did you mean distill {near}?" if near else ""
        print(f"error: unknown command {arguments[0]!r}{guess}", file=sys.stderr)
        print("distill --help lists the commands", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"distill {command}", *arguments[1:]]
    with interruptible():
        runpy.run_module(f"pipelines.{MODULES.get(command, command)}", run_name="__main__")


if __name__ == "__main__":
    main()
