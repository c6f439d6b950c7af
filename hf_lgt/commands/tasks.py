"""List the tasks that can be generated: `hf-lgt tasks [TASK]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hf_lgt.commands import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("List the tasks, or one of them with its options.", keys=False)
    arguments.add_argument("task", nargs="?", help="one of them")
    known = arguments.parse_args(argv)
    return cli.guard(lambda: _one(known.task) if known.task else _all())


def _all() -> int:
    from data_builders import get_task, list_tasks

    names = list_tasks()
    width = max(map(len, names)) + 2
    for name in names:
        task = get_task(name)
        print(f"{name:<{width}}{task.family:<12}{_example(name)}")
    print("\nhf-lgt tasks TASK shows its options; for tasks in English see hf-lgt build-language --help")
    return 0


def _example(name: str) -> str:
    """A prompt with its answer."""
    from data_builders import get_task
    from data_builders.sampling import stream

    task = get_task(name)
    ((prompt, answer),) = task.sample(stream(7, "example"), max(task.min_length, 4), 1).text()
    return f"{prompt if len(prompt) <= 30 else f'{prompt[:29]}…'} → {answer}"


def _one(name: str) -> int:
    from data_builders import get_task
    from data_builders.registry import TaskError
    from hf_lgt.utils.errors import ConfigError

    try:
        task = get_task(name)
    except TaskError as error:
        raise ConfigError([str(error)]) from None
    print(f"{name}, {task.family}: {task.summary}\nlength: {task.length_unit}, from {task.min_length}")
    print(f"length generalization by theory: {task.theory}\n{_example(name)}\n")
    for key, option in task.options.items():
        print(f"  options.{key:<20}{option.doc} [{option.default!r}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
