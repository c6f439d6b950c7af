"""Commands killed at any moment and given again leave the very files of one that was not, and nothing else.

python -m tests.faults.kill --trials 50 --output kills.json
python -m tests.faults.kill --recipe report compare --trials 10
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from data_builders.sampling import stream
from hf_lgt.utils.progress import bar
from tests.faults import commands, places, processes, runs
from tests.faults.commands import Case, undisturbed

INSIDE = "inside a write"
ROUNDS = 30
"""starts of one trial at most"""
EXTRA = re.compile(r"left behind: runs/.*/checkpoints/(step-\d+/.*)?$")
WAITED_FOR = runs.STEPS // runs.SAVE_EVERY
"""writes of which one is drawn, where a command cannot be watched from within"""


def phase(case: Case, before: set[str]) -> str:
    """Where a killed command was, by what it left beside the drafts of a kill before."""
    if any(name.startswith(case.command.writes) for name in places.drafts(case.place) - before):
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
    before = places.drafts(case.place)
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
            new = places.drafts(case.place) - before
            seen.update(name for name in new if name.startswith(case.command.writes))
            return len(seen) >= wanted

        if running.until(writes):
            time.sleep(drawn.uniform(0, 0.02))
    else:
        time.sleep(drawn.uniform(0, case.seconds))
        if ranks > 1 and drawn.integers(2):
            kill_one_rank(running, drawn)
            return running, "rank"
    running.kill(alone=how == "alone")
    return running, how


def half_made(case: Case) -> list[str]:
    """What is wrong in folders that are there whole or not at all."""
    there = [name for name in case.command.whole if (case.place / name).exists()]
    return [fault for name in there for fault in places.differences(case.files, case.place, f"{name}/")]


def trial(number: int, inside: bool, case: Case, options: argparse.Namespace) -> dict:
    """Kill a command, sometimes several times, give it again, compare."""
    drawn = stream(options.seed, "kill", number)
    log = case.place.with_name(f"trial-{number}.log")
    cached = places.names(Path(os.environ["HF_HOME"]))
    wanted = int(drawn.choice([1, 1, 2, 3]))
    kills: list[dict] = []
    wrong: list[str] = []
    started: list[processes.Running] = []
    case.begin()
    for _ in range(ROUNDS):
        enough = not inside or any(kill["phase"] == INSIDE for kill in kills)
        if (len(kills) >= wanted and enough) or wrong:
            break
        before = places.drafts(case.place)
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
    started.append(last := case.run(log))
    last.wait()
    wrong += faults_of(case, last, started, any(kill["how"] == "alone" for kill in kills), options.processes)
    wrong += [f"left in the caches: {name}" for name in places.names(Path(os.environ["HF_HOME"])) - cached]
    shown = log.read_text(errors="replace")[-4000:] if wrong else ""
    return {"trial": number, "command": case.command.told, "kills": kills, "wrong": wrong, "printed": shown}


def faults_of(
    case: Case, last: processes.Running, started: list[processes.Running], orphans: bool, ranks: int
) -> list[str]:
    """What is wrong once a command that was killed was given again.

    Args:
        case: the command.
        last: its last start.
        started: all of them.
        orphans: whether processes that it started were spared by a kill; each stops with a checkpoint more.
        ranks: processes of a launch.
    """
    status, wrong = last.wait(), []
    # refused, because nothing is left to do
    if status and not (status == 2 and case.is_done(last.text())):
        wrong.append(f"the command ended with status {status}")
    for running in started:
        wrong += [f"left running: {left}" for left in running.left()]
        running.kill_session()
    different = places.differences(case.files, case.place)
    wrong += [fault for fault in different if not (orphans and EXTRA.match(fault))]
    logs = [last.log, *case.place.rglob("*.log")]
    if ranks == 1 and any("Traceback" in path.read_text(errors="replace") for path in logs):
        wrong.append("a traceback was printed")
    return wrong


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=__doc__)
    parser.add_argument(
        "--recipe", nargs="+", choices=commands.COMMANDS, default=["finetune"], help="what is killed"
    )
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--inside", type=float, help="share of trials killed inside a write [0.3; 0.5]")
    parser.add_argument("--processes", type=int, default=1, help="2: under accelerate launch; for finetune")
    parser.add_argument("--spawn", action="store_true", help="start Python anew for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    options = parser.parse_args(argv)
    real = options.spawn or options.processes > 1
    if real and options.recipe != ["finetune"]:
        parser.error("--processes and --spawn are for finetune")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        os.environ["HF_HOME"] = str(Path(name, "home"))
        start = processes.spawns(options.processes) if real else processes.forks()
        reports = {
            recipe: kill_recipe(recipe, start, not real, Path(name), options) for recipe in options.recipe
        }
    report = next(iter(reports.values()))
    if len(reports) > 1:
        failures = [failure for each in reports.values() for failure in each["failures"]]
        report = {**reports, "failures": failures}
    runs.write_report(options.output, report)
    return 1 if report["failures"] else 0


def kill_recipe(
    recipe: str, start: processes.Starter, watched: bool, work: Path, options: argparse.Namespace
) -> dict:
    """All trials of a recipe; gives the report."""
    share = options.inside
    if share is None:
        share = 0.3 if recipe == "finetune" else 0.5
    inside = np.arange(options.trials) < np.ceil(share * options.trials)
    stream(options.seed, "order").shuffle(inside)
    every = commands.variants(recipe)
    cases: dict[int, Case] = {}
    trials = []
    shown = bar(total=options.trials, desc=recipe, unit="run")
    for number in range(options.trials):
        index = number % len(every)
        if index not in cases:
            cases[index] = undisturbed(every[index], start, watched, work / f"{recipe}-{index}")
        trials.append(trial(number, bool(inside[number]), cases[index], options))
        shown.update()
    shown.close()
    return summary(recipe, options, trials, list(cases.values()))


def summary(recipe: str, options: argparse.Namespace, trials: list[dict], cases: list[Case]) -> dict:
    """The report."""
    kills = [kill for each in trials for kill in each["kills"]]
    given = f" --inside {options.inside:g}" if options.inside is not None else ""
    return {
        "command": f"python -m tests.faults.kill --recipe {recipe} --trials {options.trials}"
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
