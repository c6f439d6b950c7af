"""What the recipes share: arguments, config overrides, and errors a user can read."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from data_builders.hub.push import DestinationError, PushError
from data_builders.redaction import redact
from data_builders.texts import printable
from hf_lgt.commands.arguments import count, folder, lengths, minutes, path, positive, seeds
from hf_lgt.commands.options import (
    add_dry_run_option,
    add_hub_options,
    add_run_options,
    add_together_option,
    check_hub,
)
from hf_lgt.utils.atomic_io import disk_error, is_full
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.startup import rare_collections
from hf_lgt.utils.streams import failure, inert_output, make_tolerant

if TYPE_CHECKING:
    from hf_lgt.config.load import ConfigSpec
    from hf_lgt.config.schema import Config

__all__ = ["count", "folder", "lengths", "minutes", "path", "positive", "seeds"]
__all__ += ["add_dry_run_option", "add_hub_options", "add_run_options", "add_together_option", "check_hub"]

RUN_ERROR = 1
USER_ERROR = 2


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(redact(message)))

    def format_help(self) -> str:
        if self.epilog is None and self.lists_keys:
            described = self.form().describe()
            rows = [f"  {key:<38} {meaning.replace(' [required]', '')}" for key, meaning in described]
            self.epilog = "any key of the config overrides the file's, as --section.key VALUE:\n"
            self.epilog += "\n".join(rows)
        return super().format_help()

    lists_keys = True

    @staticmethod
    def form() -> ConfigSpec[Any]:
        """The kind of config; imported only when asked for, so that a start stays quick."""
        from hf_lgt.config.load import RUN

        return RUN


def parser(
    description: str, *, keys: bool = True, form: Callable[[], ConfigSpec[Any]] | None = None
) -> argparse.ArgumentParser:
    """An argument parser whose help lists the config's keys.

    Args:
        description: what the recipe does.
        keys: whether there is a config.
        form: imports and gives the config's kind; None: that of a run.
    """
    make_tolerant()  # whatever a recipe writes comes after this
    made = _Parser(description=description, formatter_class=_Help, allow_abbrev=False)
    made.lists_keys = keys
    if form is not None:
        made.form = form  # type: ignore[method-assign]
    return made


def parse_options(
    arguments: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Known options, and the others as overrides ``section.key=value``.

    Ends the program with status 2 where an option has no value or a word belongs to none.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    flags = [flag for action in arguments._actions for flag in action.option_strings]
    # Overrides are taken out first: argparse would take their values for its positional arguments.
    own: list[str] = []
    overrides: list[str] = []
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag in flags or not word.startswith("--") or word == "--":
            own.append(word)
            continue
        if fault := _misspelt(flag, flags, getattr(arguments, "form", _Parser.form)):
            arguments.error(fault)
        if not equals:
            if not words or words[0].startswith("--"):
                arguments.error(f"{flag} needs a value")
            value = words.pop(0)
        overrides.append(f"{flag[2:]}={value}")
    known, stray = arguments.parse_known_args(own)
    if stray:
        arguments.error(f"unexpected {stray[0]!r}")
    return known, overrides


def _misspelt(flag: str, flags: Sequence[str], form: Callable[[], ConfigSpec[Any]]) -> str | None:
    """Whether something is an option that was meant, rather than a key of the config."""
    close = difflib.get_close_matches(flag, flags, n=1, cutoff=0.8)
    if not close or "." in flag:
        return None
    keys = [field.name for field in dataclasses.fields(form().root)]
    return None if flag[2:] in keys else f"unknown option {flag}; did you mean {close[0]}?"


class _Console(logging.Handler):
    """Shows the log: warnings on standard error, the rest on standard output, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if not _is_main():
            return  # the processes of a launch have the same to say
        text, warns = self.format(record), record.levelno >= logging.WARNING
        stream = sys.stderr if warns else sys.stdout
        tqdm.write(f"warning: {text}" if warns else text, file=stream)
        stream.flush()  # to a file it would come when the program ends


@contextmanager
def shown_log() -> Iterator[None]:
    """Show what the project logs within the block; elsewhere a program decides, by `logging`."""
    loggers, handler = [logging.getLogger(name) for name in ("hf_lgt", "data_builders")], _Console()
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def guard(main: Callable[[], int]) -> int:
    """Run a recipe; its errors become messages, never tracebacks, and hold no secrets.

    Returns:
        The recipe's own status; 2 after a user's mistake, 1 for a run that could not continue, 143 when
        stopped by SIGTERM and 130 when interrupted (SIGINT). Where all went well but standard output could
        not be written, 141 if nobody read it any more (SIGPIPE), else 1.
    """
    return _guarded(main) or _unwritten()


def _guarded(main: Callable[[], int]) -> int:
    from hf_lgt.utils.signals import Interrupted, ended_by_sigterm

    try:
        with ended_by_sigterm(), rare_collections(), inert_output(), shown_log():
            return main()
    except ConfigError as error:
        return _tell_faults(error.faults)
    except DestinationError as error:
        return _tell_faults([str(error)])
    except Interrupted as error:
        if _is_main():
            print(error.told or "interrupted; give the same command again", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        if _is_main():
            print("interrupted; give the same command again", file=sys.stderr)
        return 128 + signal.SIGINT
    except PushError as error:
        return _tell_error(error, all_meet_it=True)
    except RunError as error:
        return _tell_error(error)
    except OSError as error:
        return _tell_os_error(error)
    except (MemoryError, RuntimeError) as error:
        from hf_lgt.utils.memory import told_of_memory

        if told := told_of_memory(error):
            return _tell_error(RunError(told))
        from hf_lgt.utils.distributed import told_of_others

        if (told := told_of_others(error)) is None:
            raise
        return _tell_error(RunError(told))


def _unwritten() -> int:
    error = failure()
    if error is None:
        return 0
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    told = f"standard output could not be written: {error.strerror}; what was written to files is whole"
    return _tell_error(RunError(told), all_meet_it=True)


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _first_to_tell() -> bool:
    """Whether no other process of this launch has told of an error yet; the one that met it is the first."""
    torch = sys.modules.get("torch")
    if os.environ.get("WORLD_SIZE", "1") == "1" or torch is None or not torch.distributed.is_initialized():
        return _is_main()
    try:
        # the launcher holds the store, which outlives each of its processes
        store = torch.distributed.distributed_c10d._get_default_store()
        return int(store.add("hf_lgt/told", 1)) == 1
    except Exception:
        return _is_main()


def _tell_faults(faults: Sequence[str]) -> int:
    # each process of a launch mostly finds the same faults; one tells them
    if _first_to_tell():
        print(f"error: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}:", file=sys.stderr)
        for fault in faults:
            print(f"  {printable(redact(fault))}", file=sys.stderr)
    return USER_ERROR


def _tell_error(error: Exception, all_meet_it: bool = False) -> int:
    if _is_main() if all_meet_it else _first_to_tell():
        print(f"error: {printable(redact(str(error)))}", file=sys.stderr)
    return RUN_ERROR


def _tell_os_error(error: OSError) -> int:
    """Of a file or folder: what cannot be put right in the command is no mistake of the user's."""
    told = f"{error.filename or 'a file'}: {error.strerror or error}"
    if disk_error(error) is not error:
        return _tell_faults([told])
    what = "free disk space" if is_full(error) else "put this right"
    return _tell_error(RunError(f"{told}; {what}, then rerun the same command"))


def load_run_config(path: str, overrides: Sequence[str]) -> Config:
    """`load_config`, imported late so that ``--help`` stays quick."""
    from hf_lgt.config.load import load_config

    return load_config(path, overrides)
