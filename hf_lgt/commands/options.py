"""Options that several recipes have, the same wherever they are."""

from __future__ import annotations

import argparse

from data_builders.hub.push import check_destination
from hf_lgt.commands.arguments import path, positive
from hf_lgt.utils.errors import ConfigError


def add_hub_options(arguments: argparse.ArgumentParser, what: str, *, branch: bool = True) -> None:
    """``--push_to_hub``, ``--private`` and ``--revision``, the same wherever something is pushed.

    Args:
        arguments: where they are added.
        what: is pushed, for the help.
        branch: whether ``--revision`` is one of them.
    """
    arguments.add_argument("--push_to_hub", metavar="ORG/NAME", help=f"push {what} to this Hub repository")
    arguments.add_argument("--private", action="store_true", help="make a new repository private")
    if branch:
        arguments.add_argument("--revision", metavar="BRANCH", help="branch to push to [the main one]")


def add_run_options(arguments: argparse.ArgumentParser) -> None:
    """``--overwrite``, ``--resume`` and ``--threads``, the same for all that trains."""
    arguments.add_argument("--overwrite", action="store_true", help="remove an earlier run of this name")
    arguments.add_argument(
        "--resume",
        default="auto",
        type=path,
        metavar="auto|never|PATH",
        help="auto: resume an interrupted run; never: refuse to; PATH: begin from this checkpoint [auto]",
    )
    arguments.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="of each process on a CPU [all cores, divided among the processes; OMP_NUM_THREADS]",
    )


def add_together_option(arguments: argparse.ArgumentParser) -> None:
    """``--together``, the same for all that trains many runs."""
    arguments.add_argument(
        "--together",
        type=positive,
        default=1,
        metavar="RUNS",
        help="runs of one shape that each process trains at once, their weights stacked [1]",
    )


def add_dry_run_option(arguments: argparse.ArgumentParser) -> None:
    """``--dry_run``, the same for all that trains many runs."""
    arguments.add_argument("--dry_run", action="store_true", help="only list the runs")


def check_hub(known: argparse.Namespace, repo_type: str) -> None:
    """Refuse, before any work, a push that could not go well.

    Raises:
        ConfigError: an option is given without ``--push_to_hub``.
        DestinationError: the repository cannot be pushed to.
        PushError: the Hub cannot be reached.
    """
    branch = getattr(known, "revision", None)
    if known.push_to_hub is not None:
        check_destination(known.push_to_hub, branch, repo_type)
        return
    given = [flag for flag, value in (("--private", known.private), ("--revision", branch)) if value]
    if given:
        raise ConfigError([f"{flag}: is for --push_to_hub, which is not given" for flag in given])
