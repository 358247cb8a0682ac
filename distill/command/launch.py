"""From a command line to a run: absl flags, configs, and errors without tracebacks."""

import logging as stdlib_logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

# Libraries' chatter, unless the user has asked for it. Set before they are loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
from absl import flags, logging

from distill import config as configs
from distill.command.entry import check_packages
from distill.errors import UserError
from distill.parallel import distributed
from distill.paths import local_path, source_name
from distill.terminal import accept_any_text
from distill.train.branch import branch_config
from distill.train.memory import explained
from distill.train.signals import Terminated, orderly_end
from distill.train.train_log import PlainFormatter, explain
from distill.train.workdir import Workdir

_OVERRIDE = "--config."


def launch_training(
    doc: str,
    schema: type,
    run: Callable[[Any, Workdir], Any],
    argv: Sequence[str] | None = None,
    *,
    complete: Callable[[dict[str, Any], dict[str, str]], dict[str, Any]] | None = None,
) -> NoReturn:
    """Parses what names a config and a workdir, and runs a training pipeline.

    Args:
      doc: the pipeline's docstring, for --help.
      schema: the pipeline's config.
      run: the pipeline.
      argv: arguments; None takes the command line's.
      complete: maps a config file's content and the overrides to what the schema is built from.
    """
    values = flags.FlagValues()
    define_config(values)
    define_path("workdir", "Directory the run writes to.", values)
    define_path(
        "branch_from",
        "WORKDIR[@STEP] of a run to branch a cooldown off, instead of --config; "
        "with --config.schedule.cooldown_steps=N.",
        values,
    )
    define_process_flags(values)

    def body(arguments: list[str]) -> None:
        overrides, rest = split_overrides(arguments)
        parse(values, rest, required=("workdir",))
        if (values.config is None) == (values.branch_from is None):
            raise UserError("give one of --config=FILE and --branch_from=WORKDIR@STEP\nSee --help")
        workdir = Path(values.workdir)
        join(values, workdir=workdir)
        if values.branch_from:
            config = branch_config(schema, values.branch_from, overrides, workdir)
        else:
            tree = configs.load_file(values.config)
            tree = complete(tree, overrides) if complete else tree
            config = configs.resolve(schema, tree, overrides)
        run(config, Workdir(workdir))

    launch(doc, values, body, argv, schema, batch="--config.train.batch_size")


def launch(
    doc: str,
    values: flags.FlagValues,
    body: Callable[[list[str]], None],
    argv: Sequence[str] | None = None,
    schema: type | None = None,
    batch: str = "batch",
) -> NoReturn:
    """Runs `body` on the arguments and exits: 0, or the error's exit code with its message.

    Where several processes take part, each exits like this, and messages name the process.

    Args:
      doc: the command's docstring, for --help.
      values: its flags.
      body: takes the arguments.
      argv: arguments; None takes the command line's.
      schema: of its config, for --help.
      batch: what sets how many images are computed at once, for the message where memory runs out.
    """
    arguments = _command_line() if argv is None else list(argv)
    accept_any_text()
    _quieten_libraries()
    if {"--help", "-h", "-help"} & set(arguments):

        def body(arguments):
            del arguments
            print(help_text(doc, values, schema))

    code = 0
    try:
        out_of_memory = explained(lambda: f"Use a smaller {batch}, a smaller model or more devices")
        with orderly_end(), out_of_memory:
            check_packages()
            body(arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        code = 128 + signal.SIGPIPE
    except UserError as error:
        sys.stdout.flush()
        code = error.exit_code
        if code or distributed.is_primary():
            who = f"{distributed.this_process()}: " if distributed.several() else ""
            print(f"{who if code else ''}{explain(error)}", file=sys.stderr)
    except KeyboardInterrupt as error:
        print(f"\n{explain(error)}", file=sys.stderr)
        code = 130
    except Terminated as error:
        print(explain(error), file=sys.stderr)
        code = error.exit_code
    except BaseException as error:
        if not distributed.several():
            raise
        # Python's own way out would wait for the others, which wait for this process.
        traceback.print_exc()
        # JAX's errors are how the loss of another process shows; any other one explains itself.
        distributed.end(1, explained=not isinstance(error, jax.errors.JaxRuntimeError))
    distributed.leave(code)
    sys.exit(code)


def _nobody_reads() -> bool:
    """Whether what standard output goes to has ended, as `head` does; the rest of it is dropped."""
    output = sys.stdout.fileno()
    reader = select.poll()
    # Of a pipe without a reader an error is told, whatever is asked for.
    reader.register(output, 0)
    if not reader.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _command_line() -> list[str]:
    """The command line's arguments, which are UTF-8, whatever the locale says."""
    return [os.fsencode(one).decode("utf-8", "surrogateescape") for one in sys.argv[1:]]


def define_config(values: flags.FlagValues, default: str | None = None) -> None:
    """Defines --config, which `distill.config.load_file` reads."""
    flags.DEFINE_string(
        "config",
        default,
        "Config file, or a name that `distill configs` lists; with :ARGUMENT if it takes one.",
        flag_values=values,
    )


def define_process_flags(values: flags.FlagValues) -> None:
    """Defines the flags by which processes find each other; see docs/scale.md."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Join the other processes of this TPU slice, Slurm or Open MPI job.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT at which process 0 listens, where nothing tells JAX; the same everywhere.",
        flag_values=values,
    )
    flags.DEFINE_integer("processes", None, "How many processes take part.", 1, flag_values=values)
    flags.DEFINE_integer("process", None, "Which of them this is.", 0, flag_values=values)
    flags.DEFINE_integer(
        "start_timeout",
        distributed.START_TIMEOUT,
        "Seconds to wait for the other processes at the start.",
        1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "lost_after",
        distributed.LOST_AFTER,
        "Seconds without a sign of life after which a process counts as lost.",
        1,
        flag_values=values,
    )


class _PathParser(flags.ArgumentParser):
    """Of a flag whose text `parse` turns into what `convert` says."""

    def __init__(self, convert: Callable[[str, str], str]):
        super().__init__()
        self.convert = convert


def define_path(
    name: str,
    doc: str,
    values: flags.FlagValues,
    default: str | None = None,
    *,
    read: Callable[[str, str], str] = local_path,
) -> None:
    """Defines a flag that holds a path on this machine, absolute once it is parsed.

    Args:
      name: of the flag.
      doc: its help.
      values: where it is defined.
      default: if it is not given.
      read: makes the value from the text and the flag's name.
    """
    flags.DEFINE(_PathParser(read), name, default, doc, flag_values=values)


def define_source(name: str, doc: str, values: flags.FlagValues) -> None:
    """Defines a flag that names a data source, such as `folder:PATH`."""
    define_path(name, doc, values, read=source_name)


def join(values: flags.FlagValues, workdir: Path | None = None) -> None:
    """Meets the other processes that the flags tell of, before anything else of JAX.

    Args:
      values: parsed, with the flags of `define_process_flags`.
      workdir: of the training run; None for a command that cannot be resumed.

    Raises:
      UserError: if the flags contradict each other or there is nobody to meet.
    """
    distributed.join(
        cluster=values.distributed,
        coordinator=values.coordinator,
        processes=values.processes,
        process=values.process,
        start_timeout=values.start_timeout,
        lost_after=values.lost_after,
        workdir=workdir,
        preemptible=workdir is not None,
    )


def _quieten_libraries() -> None:
    """Warnings, but not those that Orbax gives for opening a directory read-only."""
    flags.FLAGS.mark_as_parsed()
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(PlainFormatter())
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().addFilter(
        lambda record: "orbax" not in record.pathname or record.levelno >= stdlib_logging.ERROR
    )


def parse(values: flags.FlagValues, arguments: Sequence[str], required: Sequence[str] = ()) -> None:
    """Parses absl flags.

    Raises:
      UserError: for unknown or missing flags, stray arguments and what is no path.
    """
    try:
        rest = values(["distill", *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error}\nSee --help") from error
    for name in values:
        if values[name].value == "" or (name in required and values[name].value is None):
            raise UserError(f"--{name} needs a value: --{name}=VALUE\nSee --help")
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}\nSee --help")
    for name in values:
        flag = values[name]
        if isinstance(flag.parser, _PathParser) and flag.value is not None:
            flag.value = flag.parser.convert(flag.value, f"--{name}")


def split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes `--config.a.b=value` and `--config.a.b value` out of the arguments.

    Raises:
      UserError: for an override without a value.
    """
    overrides, rest = {}, []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith(_OVERRIDE):
            rest.append(argument)
            continue
        key, equals, value = argument.removeprefix(_OVERRIDE).partition("=")
        if not equals:
            value = next(remaining, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{argument} needs a value: {argument}=VALUE")
        overrides[key] = value
    return overrides, rest


def help_text(doc: str, values: flags.FlagValues, schema: type | None) -> str:
    """The pipeline's docstring, its flags, and the keys of its config with their defaults."""
    parts = [doc.strip(), "\nFlags:"]
    for name in values:
        flag = values[name]
        default = "" if flag.default is None else f" (default {flag.default})"
        parts.append(f"  --{name}: {flag.help}{default}")
    if schema is not None:
        parts.append("\nConfig keys, overridden by --config.key=value:")
        rows = [(key.removeprefix("config."), *rest) for key, *rest in configs.describe(schema)]
        width = max(len(row[0]) for row in rows)
        parts += [f"  {key:<{width}}  {kind}  (default {default})" for key, kind, default in rows]
    return "\n".join(parts)
