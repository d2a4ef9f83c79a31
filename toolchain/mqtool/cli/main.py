"""The `mqtool` command: finds subcommands by name, turns errors into one line."""

import _thread
import errno
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from mqruntime.printing import print_anything, printable
from mqtool import __version__
from mqtool.errors import MqError, OptionError

__all__ = ["cli", "main"]

# Commands in the order of use: where each one is, and its line in `mqtool --help`.
_COMMANDS = {
    "export": ("mqtool.cli.export:export", "Turn a model into float ONNX graphs."),
    "plan": ("mqtool.cli.plan:plan", "Choose bits for every layer to fit a byte budget."),
    "pack": ("mqtool.cli.pack:pack", "Write the quantized model a plan describes."),
    "validate": ("mqtool.cli.validate:validate", "Check a packed model against its float one."),
    "evaluate": ("mqtool.cli.evaluate:evaluate", "Score a model on recordings with transcripts."),
    "transcribe": ("mqtool.cli.transcribe:transcribe", "Print what is said in recordings."),
    "inspect": ("mqtool.cli.inspect:inspect", "Show what is in a model, plan or graph."),
    "bench": ("mqtool.cli.bench:bench", "Measure load time, speed and memory."),
    "choose": ("mqtool.cli.choose:choose", "Rank models at one size on your recordings."),
    "sweep": ("mqtool.cli.sweep:sweep", "Score plans over a range of budgets."),
    "matrix": ("mqtool.cli.matrix:matrix", "Calibrate on each group, test on every other."),
    "ablate": ("mqtool.cli.ablate:ablate", "Compare sensitivities, calibrations and bits."),
    "package": ("mqtool.cli.package:package", "Make one file, or fill the Android app."),
    "expand": ("mqtool.cli.expand:expand", "Write coded weights as a stock ONNX model."),
    "keygen": ("mqtool.cli.keygen:keygen", "Make a key pair to sign bundles with."),
}


class _Commands(click.Group):
    """Lists commands without importing them, so that `mqtool --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="mqtool")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Fit a speech-recognition model to one user and N kilobytes.

    \b
    Example:
      mqtool export openai/whisper-tiny.en -o model/
      mqtool plan model/ --budget-kb 14000 --calib recordings/ -o plan.json
      mqtool pack model/ --plan plan.json --calib recordings/ -o packed/
      mqtool transcribe packed/ hello.wav
    """
    ctx.ensure_object(dict)["debug"] = debug


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 128 + N by signal N."""
    print_anything()
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    settings = {"debug": False}
    interrupts: list[int] = []
    try:
        with _noting(interrupts):
            # Without standalone mode click hands back the code of ctx.exit(), --help included.
            code = cli.main(arguments, prog_name="mqtool", standalone_mode=False, obj=settings)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(interrupts)
    except BrokenPipeError:
        # The reader of our output is gone (`mqtool ... | head`): nothing left to say or flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if interrupts:
            return _interrupted(interrupts)
        if settings["debug"]:
            traceback.print_exc()
        _say(f"Error: {_one_line(error)}")
        return 2 if isinstance(error, OptionError) else 1
    return code if isinstance(code, int) else 0


_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Signals that end a command, which cleans up."""


@contextmanager
def _noting(interrupts: list[int]) -> Iterator[None]:
    """Note these signals: an extension module that is being loaded may make another error of them.

    One that is ignored, as nohup ignores SIGHUP, stays so. One whose interrupt is lost, as in what
    a C library calls back, comes again.
    """

    def note(number: int, frame: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_type is KeyboardInterrupt and interrupts:
            # From another thread: here it would be lost once more.
            timer = threading.Timer(0.01, _thread.interrupt_main, interrupts[:1])
            timer.daemon = True
            timer.start()
        else:
            hook(lost)

    hook, sys.unraisablehook = sys.unraisablehook, again
    before = {}
    if threading.current_thread() is threading.main_thread():
        defaults = (signal.SIG_DFL, signal.default_int_handler)
        before = {n: signal.getsignal(n) for n in _ENDING if signal.getsignal(n) in defaults}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _interrupted(interrupts: list[int]) -> int:
    _say("Interrupted")
    # Where Ctrl-C ended code that is run from a string, as the making of a dataclass is, Python
    # would end by the signal instead of with our exit code, unless such code has run since.
    exec("")
    return 128 + (interrupts[0] if interrupts else signal.SIGINT)


def _one_line(error: Exception) -> str:
    if isinstance(error, MqError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            where = error.filename or os.environ.get("TMPDIR", "/tmp")
            return f"{where}: no space left on the disk; free some and run it again"
        return f"{error.filename or 'system'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "out of memory; use fewer or shorter clips, or a smaller model"
    what = " ".join(str(error).split())[:200]
    return (
        f"a bug in mqtool ({type(error).__name__}: {what}); "
        f"run `mqtool --debug ...` and report what it prints"
    )


def _say(message: str) -> None:
    print(printable(message), file=sys.stderr)
