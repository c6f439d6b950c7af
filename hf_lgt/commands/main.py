"""The command ``hf-lgt``: one word for each thing to do, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "finetune": "train a run, evaluate it by length, save the model",
    "evaluate": "evaluate a saved run or model at other lengths",
    "compare": "train arms over seeds and compare them",
    "sweep": "train a grid of settings, arms and seeds, here or on Slurm",
    "probe": "how far a checkpoint extrapolates, and what would teach it to",
    "analyze": "look into heads, causes and relatedness",
    "report": "write a page about runs and experiments",
    "pretrain": "pretrain a small model with revisions on the way",
    "build-dataset": "write a mixture of tasks as a dataset, push it to the Hub",
    "build-language": "write a corpus of tasks in English",
    "tasks": "list the tasks that can be generated",
    "recipes": "list the recipe files that come along, or copy some here",
}
PROGRAM = "hf-lgt"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; gives its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name, rest = (words[0], words[1:]) if words else ("", [])
    if name in COMMANDS:
        sys.argv = [f"{PROGRAM} {name}", *rest]  # what the command's own parser calls itself
        status: int = importlib.import_module(f"hf_lgt.commands.{name.replace('-', '_')}").main(rest)
        return status
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"{PROGRAM} {version(PROGRAM)}")
        return 0
    print(_help() if not words else _unknown(name), file=sys.stderr)
    return 2


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:<{width}}{told}" for name, told in COMMANDS.items())
    return f"""usage: {PROGRAM} COMMAND [OPTIONS]

Does a language model extrapolate to longer inputs, and can a related task
teach it to?

{listed}

  {PROGRAM} COMMAND --help   the options of a command
  {PROGRAM} --version        its version
  {PROGRAM} finetune         a first run: three minutes on two CPU cores
  accelerate launch -m hf_lgt finetune    the same on several processes"""


def _unknown(name: str) -> str:
    from data_builders.registry import unknown
    from data_builders.texts import printable

    return f"error: {printable(unknown('command', name, list(COMMANDS)))}"
