"""From a command line to a run, and errors without tracebacks."""

import atexit
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import flags

from distill import config as configs
from distill.bounds import Steps
from distill.command.compiled import keep_compiled
from distill.command.entry import check_packages, imported
from distill.command.flags import (
    define_config,
    define_number,
    define_path,
    define_verbose,
    parse,
    split_overrides,
)
from distill.command.help import help_text, is_asked
from distill.command.host import command_line, nobody_reads
from distill.command.kind import expecting, family_of, folder_of
from distill.command.processes import define_process_flags, join
from distill.command.quiet import quieten_libraries
from distill.command.streams import keep_streams
from distill.data.workers import allow_workers
from distill.errors import UserError
from distill.parallel import distributed
from distill.parallel.printed import verbose
from distill.paths import local_or_bucket_path
from distill.startup import OTHER, STARTUP, process_seconds
from distill.terminal import TERMINAL, accept_any_text
from distill.train.branch import branch_config
from distill.train.bucket_workdir import opened, path_of
from distill.train.left import writing_to
from distill.train.memory import explained
from distill.train.signals import Terminated, orderly_end
from distill.train.train_log import explain
from distill.train.workdir import Gone, Workdir


def launch_training(
    doc: str | None,
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
    define_path(
        "workdir",
        "Directory the run writes to; also in a bucket, s3://BUCKET/PATH or gs://BUCKET/PATH.",
        values,
        read=local_or_bucket_path,
    )
    define_path(
        "branch_from",
        "WORKDIR[@STEP] of a run to branch a cooldown off, instead of --config; "
        "with --config.schedule.cooldown_steps=N.",
        values,
    )
    define_number(
        "resume_from",
        "Step of the checkpoint to go on from where later ones, or other files of the run, are "
        "damaged; what is damaged is kept in WORKDIR/damaged. 0 begins anew.",
        values,
        Steps,
    )
    define_verbose(values)
    define_process_flags(values)

    def read_config(overrides: dict[str, str], workdir: Path) -> Any:
        if values.branch_from:
            return branch_config(schema, values.branch_from, overrides, workdir)
        tree = configs.load_file(values.config, folder_of(schema))
        keys = tree.keys() | {key.partition(".")[0] for key in overrides}
        with expecting(schema, keys, family_of(tree)):
            tree = complete(tree, overrides) if complete else tree
            return configs.resolve(schema, tree, overrides)

    def body(arguments: list[str]) -> None:
        overrides, rest = split_overrides(arguments)
        parse(values, rest, required=("workdir",))
        if (values.config is None) == (values.branch_from is None):
            raise UserError("give one of --config=FILE and --branch_from=WORKDIR@STEP\nSee --help")
        join(values, path_of(values.workdir), overrides)
        with opened(values.workdir) as directory:
            with STARTUP.during("config"):
                config = read_config(overrides, directory)
            distributed.check_same("the config", configs.to_dict(config))
            workdir = Workdir(directory, resume_from=values.resume_from)
            distributed.check_shared(workdir.path, "--workdir")
            with verbose(values.verbose), workdir.at_work():
                run(config, workdir)

    launch(
        doc,
        values,
        body,
        argv,
        schema,
        batch="--config.train.batch_size",
        writes=lambda: path_of(values.workdir) if values.workdir else None,
        outlives_output=True,
    )


def launch(
    doc: str | None,
    values: flags.FlagValues,
    body: Callable[[list[str]], None],
    argv: Sequence[str] | None = None,
    schema: type | None = None,
    batch: str = "batch",
    keeps: bool = True,
    writes: Callable[[], Path | None] = lambda: None,
    outlives_output: bool = False,
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
      keeps: whether compiled programs are kept; those for devices that are not here cannot be read.
      writes: says, once flags are parsed, which workdir is written to.
      outlives_output: whether it goes on where nobody reads what it prints, as its results are
        files.
    """
    STARTUP.begin("import", process_seconds())
    STARTUP.turn_to(OTHER)
    imported()
    arguments = command_line() if argv is None else list(argv)
    # Before streams are replaced: absl looks for those that Python began with.
    quieten_libraries()
    keep_streams(output=outlives_output)
    accept_any_text()
    allow_workers()
    if is_asked(arguments):

        def print_help(arguments: list[str]) -> None:
            print(help_text(doc or "", values, schema, arguments))

        body = print_help

    code, message = 0, ""
    try:
        out_of_memory = explained(lambda: f"Use a smaller {batch}, a smaller model or more devices")
        with orderly_end(), out_of_memory, _backends_that_are_there():
            check_packages()
            if keeps:
                keep_compiled()
            with writing_to(writes):
                body(arguments)
                sys.stdout.flush()
    except BrokenPipeError:
        if not nobody_reads():
            raise
        code = 128 + signal.SIGPIPE
    except UserError as error:
        sys.stdout.flush()
        code, message = error.exit_code, str(error)
        if code or distributed.is_primary():
            who = distributed.who() if code else ""
            TERMINAL.print(f"{who}{explain(error)}")
        if isinstance(error, Gone):
            # Threads that still write would trace their failure.
            _end_interrupted(code, message)
    except KeyboardInterrupt as error:
        # A terminal has "^C" on the line.
        TERMINAL.print(explain(error) if TERMINAL.can_erase else f"\n{explain(error)}")
        _end_interrupted(130)
    except Terminated as error:
        TERMINAL.print(explain(error))
        _end_interrupted(error.exit_code)
    except BaseException as error:
        if not distributed.several():
            raise
        # What another process says of its failure ends this one.
        distributed.await_blame()
        traceback.print_exc()
        # JAX's errors are how the loss of another process shows; any other one explains itself.
        if isinstance(error, jax.errors.JaxRuntimeError):
            distributed.end(1)
        # Python's own way out would wait for the others, which wait for this process.
        distributed.leave(1, "".join(traceback.format_exception_only(error)).strip())
    distributed.leave(code, message)
    sys.exit(code)


@contextlib.contextmanager
def _backends_that_are_there() -> Iterator[None]:
    """Says of a backend that JAX cannot begin how it came to be asked for.

    Raises:
      UserError: in place of JAX's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("Unable to initialize backend"):
            raise
        asked = os.environ.get("JAX_PLATFORMS")
        named = f" JAX_PLATFORMS is {asked!r}; such as cpu, cuda and tpu are known" if asked else ""
        raise UserError(f"{str(error).partition(' (set JAX')[0]}{named}") from error


def _end_interrupted(code: int, message: str = "it was interrupted") -> NoReturn:
    """Ends without taking Python apart.

    What the interruption found JAX at, such as a compilation, stays half done, and freeing it was
    seen to end in a segmentation fault.
    """
    distributed.leave(code, message)
    # Semaphores and temporary files are given back.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
