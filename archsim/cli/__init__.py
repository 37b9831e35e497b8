"""The command line: parse, call one API function, print. No physics here.

Subcommands are imported only when they are called, so that ``archsim --help`` stays fast.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from typing import TextIO

import click

COMMANDS = {
    "simulate": "Replay a token trace on the hardware: time, energy, area, function.",
    "sweep": "Explore a design space: many hardwares, Pareto front, sensitivity.",
    "compare": "The accelerator beside GPUs, by measurements and a model.",
    "claims": "The paper's claims, each with a verdict by stated rules.",
    "baseline": "Measure the GPU side on a GPU of your own.",
    "evaluate": "A model with the hardware's attention inside: loss, agreement, probes.",
    "retention": "How slow a token may be, and how long cells must hold.",
    "adapt": "Bring a GPT-2 onto the hardware: the initialization algorithm.",
    "validate": "Every published figure beside ours.",
    "trace": "Record, import and inspect token traces.",
    "config": "Show a resolved config, or the schema of configs.",
}
"""Name to one line of help; the module ``archsim.cli.<name>`` holds the command ``command``."""


CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}


class LazyGroup(click.Group):
    """A group whose commands are modules, loaded on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"archsim.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(name, list(COMMANDS), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="archsim", prog_name="archsim")
def application() -> None:
    """Cycle-level simulator of in-memory attention accelerators.

    Results go to standard output, everything else to standard error.
    Exit codes: 0 ok, 1 a check failed, 2 usage or config, 3 a missing extra
    or device, 4 corrupt input, 130 interrupted.
    """


COLLECT_EVERY = 50_000
"""New objects between two searches for garbage: imports make many that stay."""


def _open_outputs() -> TextIO:
    """Standard output; ends the process where it is closed (``>&-``), for nothing could be told.

    A closed standard error is only made harmless: the next file that is opened would take its
    place and get our messages.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for the whole process)
    if sys.stdout is None:
        _tell("error: standard output is closed; > /dev/null if it is not wanted")
        sys.exit(2)
    return sys.stdout


def _tell(text: str) -> None:
    """One message on standard error, if it can be written; the exit code tells in any case."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)


def main() -> None:
    """Entry point: runs the command and turns our errors into one line and an exit code."""
    from archsim.errors import ArchsimError, one_line

    out = _open_outputs()
    gc.set_threshold(COLLECT_EVERY)
    try:
        application(standalone_mode=False)
        sys.stdout.flush()  # a closed pipe or a full disk shows here, not at exit
        gc.freeze()  # the process ends, and its memory with it: no last search for garbage
    except SystemExit:
        if sys.stdout is not out:  # click wraps it when the pipe below is closed, and exits with 1
            sys.exit(0)
        raise
    except click.exceptions.Abort:
        _tell("interrupted")
        sys.exit(130)
    except KeyboardInterrupt:
        _tell("interrupted")
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        _tell(error.ctx.get_help() if error.ctx else "")
        sys.exit(2)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"try {error.ctx.command_path} --help"
            _tell(f"error: {one_line(error.format_message())} ({hint})")
        else:
            _tell(f"error: {one_line(error.format_message())}")
        sys.exit(error.exit_code)
    except click.exceptions.Exit as status:
        sys.exit(status.exit_code)
    except ArchsimError as error:
        _tell(f"error: {one_line(error, 1000)}")
        sys.exit(error.exit_code)
    except MemoryError:
        _tell("error: out of memory; use fewer tokens or layers")
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a full disk under standard output, and the like
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (its buffer cannot be flushed)
        _tell(f"error: {one_line(error.strerror or error)}")
        sys.exit(2)
