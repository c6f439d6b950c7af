"""The recipes' commands on tiny settings that are killed, what they read, and what each must leave."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import places, processes, runs

DEMO = processes.ROOT / "recipes" / "demo" / "transfer.yaml"
RUN = "runs/tiny/seed-0"
QUICK = {"train.steps": 12, "train.log_every": 4, "train.eval_every": 6, "train.save_every": 4}
LONGER = {"train.steps": 120, "train.log_every": 20, "train.eval_every": 60, "train.save_every": 20}

Fill = Callable[[Path, processes.Starter], None]


@dataclass(frozen=True)
class Command:
    """A command that is killed and given again."""

    recipe: str
    """file below ``recipes/``"""
    options: Sequence[str]
    fill: Fill = lambda place, start: None
    """puts what it reads into its working folder"""
    children: bool = False
    """whether it starts processes of its own"""
    done: str = ""
    """what it ends with, and status 2, where the result is there already"""
    whole: Sequence[str] = ()
    """folders that are there as they will be, or not at all"""
    writes: str = ""
    """part of the paths that are of the writes into which kills are aimed, empty: of all"""

    @property
    def told(self) -> str:
        """As it is typed, in short."""
        return " ".join([self.recipe, *self.options])[:200]


def options(settings: dict[str, object]) -> list[str]:
    """Settings as options of a recipe."""
    return [f"--{key}={value}" for key, value in settings.items()]


def variants(recipe: str) -> list[Command]:
    """The commands of a name; trials take them in turn."""
    return COMMANDS[recipe]()


def _finetune() -> list[Command]:
    given = options({**runs.SETTINGS, "output_dir": "runs"})
    return [
        Command("finetune.py", given, done="holds a finished run", whole=[f"{RUN}/model"], writes=".step-")
    ]


def _pretrain() -> list[Command]:
    from tests.support.tiny_pretraining import SMALL, write_text

    given = [f"--{word}" for word in [*SMALL, "text.files=['text']", "output_dir=pretrained"]]

    def fill(place: Path, start: processes.Starter) -> None:
        write_text(place / "text")

    return [Command("pretrain.py", given, fill, done="holds a finished run")]


def _compare() -> list[Command]:
    def fill(place: Path, start: processes.Starter) -> None:
        arms = json.dumps([str(DEMO), "target_alone"])
        (place / "compare.yaml").write_text(f"name: both\narms: {arms}\nseeds: [0]\n", encoding="utf-8")

    settings = {**runs.SETTINGS, **LONGER, "output_dir": "runs"}
    del settings["name"]
    return [Command("compare.py", ["compare.yaml", "--jobs=2", *options(settings)], fill, children=True)]


def _probe() -> list[Command]:
    def fill(place: Path, start: processes.Starter) -> None:
        from tests.support import checkpoints
        from tests.support.tiny_battery import BATTERY

        checkpoints.write(place / "m")
        (place / "battery.yaml").write_text(json.dumps(BATTERY), encoding="utf-8")

    given = ["m", "--battery=battery.yaml", "--families=copy", "--jobs=2"]
    return [Command("probe.py", given, fill, children=True, whole=[])]


def _sweep_together() -> list[Command]:
    def fill(place: Path, start: processes.Starter) -> None:
        settings: dict[str, dict[str, object]] = {}
        for key, value in {**runs.SETTINGS, **LONGER}.items():
            section, _, name = key.partition(".")
            if name:
                settings.setdefault(section, {})[name] = json.loads(str(value))
        config = {"base": str(DEMO), "name": "tiny", **settings}
        sweep = {"name": "small", "config": config, "arms": ["transfer"], "seeds": [0, 1]}
        (place / "sweep.yaml").write_text(json.dumps(sweep), encoding="utf-8")

    given = ["sweep.yaml", "--together=2", "--jobs=1", "--output_dir=runs"]
    return [Command("sweep.py", given, fill, children=True)]


def _trained(place: Path, start: processes.Starter) -> None:
    """A finished run."""
    settings = options({**runs.SETTINGS, **QUICK, "output_dir": "runs"})
    log = place.with_name(f"{place.name}.log")
    running = start(settings, log, place=place)
    if running.wait() != 0:
        raise RuntimeError(f"the run failed:\n{running.text()}")


def _over(result: str, fill: Fill, command: Callable[[], Command]) -> Fill:
    """As another, and the result is there already."""

    def both(place: Path, start: processes.Starter) -> None:
        fill(place, start)
        own = command()
        log = place.with_name(f"{place.name}-before.log")
        running = start([o for o in own.options if o != "--overwrite"], log, recipe=own.recipe, place=place)
        if running.wait() != 0:
            raise RuntimeError(f"what is replaced failed:\n{running.text()}")
        assert (place / result).is_dir()

    return both


def _new_and_replaced(recipe: str, given: Sequence[str], fill: Fill, result: str) -> list[Command]:
    """A command that writes a folder, and the same that puts it in the place of an earlier one."""
    new = Command(recipe, given, fill, done="--overwrite", whole=[result])
    replaced = Command(recipe, [*given, "--overwrite"], _over(result, fill, lambda: new), whole=[result])
    return [new, replaced]


def _analyze() -> list[Command]:
    few = ["--examples=16", "--lengths=10"]
    heads = _new_and_replaced("analyze.py", ["heads", RUN, *few], _trained, f"{RUN}/analysis/heads")
    necessity = _new_and_replaced(
        "analyze.py", ["necessity", RUN, *few, "--k=1", "--output=out"], _trained, "out"
    )
    settings = {**runs.SETTINGS, **QUICK, "output_dir": "runs", "name": "tiny"}
    ranked = [
        "related",
        "--target=capitalize_reverse",
        "--candidates=reverse",
        f"--config={DEMO}",
        "--steps=6",
    ]
    ranked += ["--seeds=0", "--examples=16", "--output=ranking", "--jobs=2"]
    unset = ("train.steps", "train.save_every", "train.eval_every")
    related = [*ranked, *options({k: v for k, v in settings.items() if k not in unset})]
    return [
        *heads,
        *necessity,
        Command("analyze.py", related, children=True, done="give --overwrite", whole=["ranking"]),
    ]


def _evaluate() -> list[Command]:
    given = [RUN, "--eval.lengths=[1,12]", "--eval.examples=16", "--output=found"]
    return _new_and_replaced("evaluate.py", given, _trained, "found")


def _report() -> list[Command]:
    def fill(place: Path, start: processes.Starter) -> None:
        from tests.support.report_runs import write_experiment

        write_experiment(place / "runs")

    new = Command("report.py", ["runs"], fill, whole=["runs/report"])
    elsewhere = Command("report.py", ["runs", "--output=page"], fill, whole=["page"])
    replaced = Command("report.py", ["runs"], _over("runs/report", fill, lambda: new), whole=["runs/report"])
    return [new, replaced, elsewhere]


def _build_dataset() -> list[Command]:
    given = ["--train_examples=20000", "--eval.lengths=[1,10]", "--eval.examples=16", "--output=corpus"]

    def nothing(place: Path, start: processes.Starter) -> None:
        pass

    alone = _new_and_replaced("build_dataset.py", given, nothing, "corpus")
    several = _new_and_replaced("build_dataset.py", [*given, "--num_proc=2"], nothing, "corpus")
    tasks = Command("build_dataset.py", [*given, "--lm_eval=tasks"], whole=["corpus", "tasks"])
    forked = [dataclasses.replace(command, children=True) for command in several]
    return [forked[0], alone[1], forked[1], alone[0], tasks]


COMMANDS: dict[str, Callable[[], list[Command]]] = {
    "finetune": _finetune,
    "pretrain": _pretrain,
    "compare": _compare,
    "probe": _probe,
    "sweep_together": _sweep_together,
    "analyze": _analyze,
    "evaluate": _evaluate,
    "report": _report,
    "build_dataset": _build_dataset,
}


@dataclass(frozen=True)
class Case:
    """A command, and what it does when nobody kills it."""

    command: Command
    start: processes.Starter
    watched: bool
    """whether it can be killed at an operation on a file"""
    inputs: Path
    place: Path
    """working folder, the same for every start: results may name it"""
    files: dict[str, bytes]
    """see `places.snapshot`"""
    seconds: float
    operations: int
    """on files, see `processes.Trap`"""

    def begin(self) -> None:
        """Make the working folder anew."""
        places.make_place(self.place, self.inputs)

    def run(self, log: Path, trap: processes.Trap | None = None) -> processes.Running:
        """Start the command."""
        return self.start(self.command.options, log, recipe=self.command.recipe, place=self.place, trap=trap)

    def is_done(self, text: str) -> bool:
        """Whether a command was refused because the result is there."""
        return bool(self.command.done) and self.command.done in text


def undisturbed(command: Command, start: processes.Starter, watched: bool, work: Path) -> Case:
    """Make what a command reads, and run it twice; the two must agree."""
    inputs, place = work / "inputs", work / "place"
    command.fill(places.make_place(inputs), start)
    found: list[dict[str, bytes]] = []
    seconds, count, log = [], work / "operations", work / "undisturbed.log"
    for _ in range(2):
        case = Case(command, start, watched, inputs, place, {}, 0.0, 0)
        case.begin()
        begun = time.monotonic()
        trap = processes.Trap(0, command.writes, count=count) if watched else None
        running = case.run(log, trap)
        if running.wait() != 0:
            raise RuntimeError(f"the undisturbed command failed:\n{running.text()}")
        seconds.append(time.monotonic() - begun)
        if found and (wrong := places.differences(found[0], place)):
            raise RuntimeError(f"two undisturbed commands differ: {wrong}")
        found.append(places.snapshot(place))
    operations = int(count.read_text()) if watched else 0
    return Case(command, start, watched, inputs, place, found[0], min(seconds), operations)
