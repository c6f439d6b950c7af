"""Runs killed at any moment and resumed give the very result of one that was not.

python -m tests.faults.kill --trials 50 --output kills.json
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from data_builders.sampling import stream
from hf_lgt.progress import bar
from tests.faults import runs

WRITES = runs.STEPS // runs.SAVE_EVERY
INSIDE = "inside a checkpoint write"
ROUNDS = 30
"""starts of one trial at most"""


def unfinished(run_dir: Path) -> set[str]:
    """Names of the checkpoints that were being written."""
    return {path.name for path in (run_dir / "checkpoints").glob(".step-*")}


def phase(run_dir: Path, before: set[str]) -> str:
    """Where a killed run was, by what it left beside the unfinished checkpoints of a kill before."""
    if unfinished(run_dir) - before:
        return INSIDE
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


def kill_inside(running: runs.Running, run_dir: Path, drawn: np.random.Generator, before: set[str]) -> int:
    """Kill a run soon after it began to write a checkpoint, which of them is drawn; gives its status."""
    left = WRITES - len(list((run_dir / "checkpoints").glob("step-*")))
    wanted, seen = int(drawn.integers(1, max(left, 1) + 1)), set[str]()

    def writes() -> bool:
        seen.update(unfinished(run_dir) - before)
        return len(seen) >= wanted

    if running.until(writes):
        time.sleep(drawn.uniform(0, 0.02))
    return running.kill()


def kill_one_rank(running: runs.Running, drawn: np.random.Generator) -> int:
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


def trial(
    number: int,
    inside: bool,
    start: runs.Start,
    work: Path,
    expected: tuple[Path, float],
    options: argparse.Namespace,
) -> dict:
    """Kill a run, some of them several times, resume it with the same command, compare."""
    drawn = stream(options.seed, "kill", number)
    output, log = work / f"trial-{number}", work / f"trial-{number}.log"
    run_dir = runs.folder(output)
    wanted = int(drawn.choice([1, 1, 2, 3]))
    kills: list[dict] = []
    status: int | None = None
    for _ in range(ROUNDS):
        if len(kills) >= wanted and (not inside or any(k["phase"] == INSIDE for k in kills)):
            break
        if (run_dir / "model").is_dir():
            if not inside:
                break
            # it ended before a kill fell where it should: begin anew
            shutil.rmtree(output)
            kills.clear()
        before = unfinished(run_dir)
        running = start(runs.arguments(output), log)
        how = "group"
        if inside:
            kill_inside(running, run_dir, drawn, before)
        else:
            time.sleep(drawn.uniform(0, expected[1]))
            if options.processes > 1 and drawn.integers(2):
                how = "rank"
                kill_one_rank(running, drawn)
            else:
                running.kill()
        status = running.poll()
        if status == 0 and not kills:  # it was quicker than the kill: begin anew
            shutil.rmtree(output)
            continue
        if status == 0:
            break
        kills.append({"phase": phase(run_dir, before), "how": how, "status": status})
    finished = (run_dir / "model").is_dir()
    if not finished:
        status = start(runs.arguments(output), log).wait()
    elif status != 0:
        # what remained were the lock and the report; a finished run is not trained into
        start(runs.arguments(output), log).wait()
    wrong = runs.differences(expected[0], output)
    if not finished and status != 0:
        wrong.append(f"the resumed run ended with status {status}")
    text = log.read_text(errors="replace")
    if "Traceback" in text and options.processes == 1:
        wrong.append("a traceback was printed")
    return {"trial": number, "kills": kills, "wrong": wrong, "printed": text[-4000:] if wrong else ""}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--inside", type=float, default=0.3, help="share of trials killed inside a write")
    parser.add_argument("--processes", type=int, default=1, help="2: under accelerate launch")
    parser.add_argument("--spawn", action="store_true", help="start Python anew for each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    options = parser.parse_args(argv)
    real = options.spawn or options.processes > 1
    start = runs.spawns(options.processes) if real else runs.forks()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        work = Path(name)
        expected = runs.reference(start, work)
        again, seconds = runs.reference(start, work / "again")
        if wrong := runs.differences(expected[0], again.parent.parent):
            raise RuntimeError(f"two undisturbed runs differ: {wrong}")
        expected = expected[0], min(expected[1], seconds)
        inside = np.arange(options.trials) < np.ceil(options.inside * options.trials)
        stream(options.seed, "order").shuffle(inside)
        trials = []
        shown = bar(total=options.trials, desc="kills", unit="run")
        for number in range(options.trials):
            trials.append(trial(number, bool(inside[number]), start, work, expected, options))
            shown.update()
        shown.close()
    kills = [kill for each in trials for kill in each["kills"]]
    report = {
        "command": f"python -m tests.faults.kill --trials {options.trials} --processes {options.processes}"
        f" --seed {options.seed}" + (" --spawn" if options.spawn else ""),
        "trials": options.trials,
        "identical": sum(not each["wrong"] for each in trials),
        "kills": len(kills),
        "phases": dict(collections.Counter(kill["phase"] for kill in kills).most_common()),
        "trials killed inside a write": sum(INSIDE in [k["phase"] for k in t["kills"]] for t in trials),
        "trials killed": sum(bool(t["kills"]) for t in trials),
        "seconds undisturbed": round(expected[1], 2),
        "failures": [each for each in trials if each["wrong"]],
    }
    runs.write_report(options.output, report)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
