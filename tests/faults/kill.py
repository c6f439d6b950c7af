"""Commands killed at any moment and given again leave the very files of one that was not, and nothing else.

python -m tests.faults.kill --trials 50 --output kills.json
python -m tests.faults.kill --recipe report --trials 10
"""

from __future__ import annotations

import argparse
import collections
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_builders.sampling import stream
from hf_lgt.progress import bar
from tests.faults import commands, processes, runs
from tests.faults.commands import Command

INSIDE = "inside a write"
ROUNDS = 30
"""starts of one trial at most"""
WAITED_FOR = runs.STEPS // runs.SAVE_EVERY
"""writes of which one is drawn, where a command cannot be watched from within"""


@dataclass(frozen=True)
class Case:
    """A command, and what it does when nobody kills it."""

    command: Command
    start: processes.Start
    watched: bool
    """whether it can be killed at an operation on a file"""
    inputs: Path
    place: Path
    """working folder, the same for every start: results may name it"""
    files: dict[str, bytes]
    """see `commands.snapshot`"""
    seconds: float
    operations: int
    """on files, see `processes.Trap`"""

    def begin(self) -> None:
        """Make the working folder anew."""
        commands.make_place(self.place, self.inputs)

    def run(self, log: Path, trap: processes.Trap | None = None) -> processes.Running:
        """Start the command."""
        return self.start(self.command.options, log, recipe=self.command.recipe, place=self.place, trap=trap)

    def is_done(self, text: str) -> bool:
        """Whether a command was refused because the result is there."""
        return bool(self.command.done) and self.command.done in text


def undisturbed(command: Command, start: processes.Start, watched: bool, work: Path) -> Case:
    """Make what a command reads, and run it twice; the two must agree."""
    inputs, place = work / "inputs", work / "place"
    command.fill(commands.make_place(inputs), start)
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
        if found and (wrong := commands.differences(found[0], place)):
            raise RuntimeError(f"two undisturbed commands differ: {wrong}")
        found.append(commands.snapshot(place))
    operations = int(count.read_text()) if watched else 0
    return Case(command, start, watched, inputs, place, found[0], min(seconds), operations)


def phase(case: Case, before: set[str]) -> str:
    """Where a killed command was, by what it left beside the drafts of a kill before."""
    if any(name.startswith(case.command.writes) for name in commands.drafts(case.place) - before):
        return INSIDE
    if case.command.recipe == processes.FINETUNE:
        return _phase_of_run(case.place / commands.RUN)
    missing = {name for name in case.files if not (case.place / name).exists()}
    made = {name for name in case.files if not (case.inputs / name).exists()}
    if not missing:
        return "after the last write"
    return "before the first write" if made and missing == made else "between writes"


def _phase_of_run(run_dir: Path) -> str:
    if (run_dir / "model").is_dir():
        return "after the model was written"
    steps = [line["step"] for line in runs.lines(run_dir / "train.jsonl", killed=True)]
    if not steps:
        return "before the first step"
    evaluated = [line["step"] for line in runs.lines(run_dir / "eval.jsonl", killed=True)]
    due = steps[-1] - steps[-1] % runs.EVAL_EVERY if steps[-1] < runs.STEPS else runs.STEPS
    if due == steps[-1] and due not in evaluated:
        return "in evaluation"
    return "in the final save" if steps[-1] == runs.STEPS else "in training"


def kill_one_rank(running: processes.Running, drawn: np.random.Generator) -> int:
    """Kill one of the processes of a launch; the launcher ends the others."""
    import psutil

    ranks = []
    try:
        ranks = [p for p in psutil.Process(running.pid).children() if "finetune.py" in " ".join(p.cmdline())]
        if ranks:
            ranks[int(drawn.integers(len(ranks)))].send_signal(signal.SIGKILL)
    except psutil.Error:
        pass  # it has just ended
    return running.wait() if ranks else running.kill()


def start_and_kill(
    case: Case, log: Path, inside: bool, ranks: int, drawn: np.random.Generator
) -> tuple[processes.Running, str]:
    """Start a command and kill it; gives it and what was killed."""
    before = commands.drafts(case.place)
    how = "alone" if case.command.children and drawn.integers(2) else "group"
    # what its own processes write is seen from without alone
    if inside and case.watched and not (case.command.children and drawn.integers(2)):
        at = int(drawn.integers(1, case.operations + 1))
        running = case.run(log, processes.Trap(at, case.command.writes, alone=how == "alone"))
        running.wait()
        return running, how
    running = case.run(log)
    if inside:
        wanted, seen = int(drawn.integers(1, WAITED_FOR + 1)), set[str]()

        def writes() -> bool:
            new = commands.drafts(case.place) - before
            seen.update(name for name in new if name.startswith(case.command.writes))
            return len(seen) >= wanted

        if running.until(writes):
            time.sleep(drawn.uniform(0, 0.02))
    else:
        time.sleep(drawn.uniform(0, case.seconds))
        if ranks > 1 and drawn.integers(2):
            kill_one_rank(running, drawn)
            return running, "rank"
    running.kill_alone() if how == "alone" else running.kill()
    return running, how


def half_made(case: Case) -> list[str]:
    """What is wrong in folders that are there whole or not at all."""
    there = [name for name in case.command.whole if (case.place / name).exists()]
    return [fault for name in there for fault in commands.differences(case.files, case.place, f"{name}/")]


def trial(number: int, inside: bool, case: Case, options: argparse.Namespace) -> dict:
    """Kill a command, sometimes several times, give it again, compare."""
    drawn = stream(options.seed, "kill", number)
    log = case.place.with_name(f"trial-{number}.log")
    cached = _names(Path(os.environ["HF_HOME"]))
    wanted = int(drawn.choice([1, 1, 2, 3]))
    kills: list[dict] = []
    wrong: list[str] = []
    started: list[processes.Running] = []
    case.begin()
    for _ in range(ROUNDS):
        enough = not inside or any(kill["phase"] == INSIDE for kill in kills)
        if (len(kills) >= wanted and enough) or wrong:
            break
        before = commands.drafts(case.place)
        running, how = start_and_kill(case, log, inside, options.processes, drawn)
        started.append(running)
        status = running.wait()
        if status < 0 or (how == "rank" and status):
            kills.append({"phase": phase(case, before), "how": how, "status": status})
            wrong += [f"after a kill: {fault}" for fault in half_made(case)]
        elif status and not case.is_done(running.text()):
            wrong.append(f"the command ended with status {status} after {len(kills)} kills")
        elif kills and enough:
            break
        else:  # it was quicker than the kill
            for earlier in started:
                earlier.kill_session()
            case.begin()
            kills.clear()
    before_last = log.stat().st_size
    last = case.run(log)
    status = last.wait()
    text = log.read_bytes()[before_last:].decode(errors="replace")
    if status and not (status == 2 and case.is_done(text)):
        wrong.append(f"the command ended with status {status}")
    for running in (*started, last):
        wrong += [f"left running: {left}" for left in running.left()]
        running.kill_session()
    wrong += commands.differences(case.files, case.place)
    wrong += [f"left in the caches: {name}" for name in _names(Path(os.environ["HF_HOME"])) - cached]
    printed = [text, *(path.read_text(errors="replace") for path in case.place.rglob("*.log"))]
    if options.processes == 1 and any("Traceback" in each for each in printed):
        wrong.append("a traceback was printed")
    shown = log.read_text(errors="replace")[-4000:] if wrong else ""
    return {"trial": number, "command": case.command.told, "kills": kills, "wrong": wrong, "printed": shown}


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=__doc__)
    parser.add_argument("--recipe", choices=commands.COMMANDS, default="finetune", help="what is killed")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--inside", type=float, help="share of trials killed inside a write [0.3; 0.5]")
    parser.add_argument("--processes", type=int, default=1, help="2: under accelerate launch; for finetune")
    parser.add_argument("--spawn", action="store_true", help="start Python anew for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    options = parser.parse_args(argv)
    if options.processes > 1 and options.recipe != "finetune":
        parser.error("--processes is for finetune")
    share = options.inside
    if share is None:
        share = 0.3 if options.recipe == "finetune" else 0.5
    real = options.spawn or options.processes > 1
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        work = Path(name)
        os.environ["HF_HOME"] = str(work / "home")
        start = processes.spawns(options.processes) if real else processes.forks()
        inside = np.arange(options.trials) < np.ceil(share * options.trials)
        stream(options.seed, "order").shuffle(inside)
        every = commands.variants(options.recipe)
        cases: dict[int, Case] = {}
        trials = []
        shown = bar(total=options.trials, desc="kills", unit="run")
        for number in range(options.trials):
            index = number % len(every)
            if index not in cases:
                place = work / f"{options.recipe}-{index}"
                cases[index] = undisturbed(every[index], start, not real, place)
            trials.append(trial(number, bool(inside[number]), cases[index], options))
            shown.update()
        shown.close()
    report = summary(options, trials, list(cases.values()))
    runs.write_report(options.output, report)
    return 1 if report["failures"] else 0


def summary(options: argparse.Namespace, trials: list[dict], cases: list[Case]) -> dict:
    """The report."""
    kills = [kill for each in trials for kill in each["kills"]]
    given = f" --inside {options.inside:g}" if options.inside is not None else ""
    return {
        "command": f"python -m tests.faults.kill --recipe {options.recipe} --trials {options.trials}"
        f" --processes {options.processes} --seed {options.seed}{given}{' --spawn' * options.spawn}",
        "trials": options.trials,
        "identical": sum(not each["wrong"] for each in trials),
        "kills": len(kills),
        "phases": dict(collections.Counter(kill["phase"] for kill in kills).most_common()),
        "killed": dict(collections.Counter(kill["how"] for kill in kills).most_common()),
        "trials killed inside a write": sum(INSIDE in [k["phase"] for k in t["kills"]] for t in trials),
        "trials killed": sum(bool(t["kills"]) for t in trials),
        "seconds undisturbed": [round(case.seconds, 2) for case in cases],
        "failures": [each for each in trials if each["wrong"]],
    }


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
