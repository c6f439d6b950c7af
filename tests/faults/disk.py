"""A disk that is full at any point of a run: the run says so, harms nothing, resumes once disk space is free.

python -m tests.faults.disk --points 20 --output disk.json

The disk is a small tmpfs, which takes root or a user namespace (`unshare -mr`).
"""

from __future__ import annotations

import argparse
import collections
import errno
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_builders.sampling import stream
from hf_lgt.checkpointing.checkpoints import list_checkpoints, verify
from hf_lgt.utils.errors import CheckpointError
from hf_lgt.utils.progress import bar
from tests.faults import processes, runs

SIZE = 64 << 20
"""bytes of the disk; a run of the tiny config takes a few millions"""
OWN = "HF_LGT_FAULTS_OWN_MOUNTS"
PAGE = 4096
LINES = 30
"""of `eval.jsonl`, an evaluation"""


def namespace() -> list[str] | None:
    """The command under which a process may mount what goes when it ends, None where there is none."""
    probe = ["sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    for found in (["unshare", "-m"], ["unshare", "-mr"]):
        try:
            done = subprocess.run([*found, *probe], capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return found
    return None


class Disk:
    """A tmpfs and a file on it that takes the room away."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes=100k", "tmpfs", str(place)], check=True
        )
        self.place = place
        self.ballast = place / "ballast"

    def free(self) -> int:
        """Bytes that are left."""
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize

    def leave(self, room: int) -> None:
        """Take all but some bytes, whatever is written meanwhile."""
        with open(self.ballast, "ab") as file:
            step = SIZE
            while step >= PAGE:
                step = min(step, (self.free() - room) // PAGE * PAGE)
                if step < PAGE:
                    return
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2  # the run was quicker

    def make_room(self, how: str) -> None:
        """As an administrator would: a bigger disk, or a file less."""
        if how == "remount":
            self._remount(3 * SIZE)
        else:
            self.ballast.unlink(missing_ok=True)

    def clear(self, output: Path) -> None:
        """Empty, at its first size."""
        subprocess.run(["rm", "-rf", str(self.ballast), str(output)], check=True)
        self._remount(SIZE)

    def _remount(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    def unmount(self) -> None:
        """Away with it."""
        subprocess.run(["umount", str(self.place)], check=True)


def events(drawn: np.random.Generator) -> dict[str, tuple[Callable[[Path], bool], dict[str, object]]]:
    """What may have been reached when the disk is full: (whether it is, settings of the run)."""
    step = int(drawn.integers(1, runs.STEPS))
    write = int(drawn.integers(1, runs.STEPS // runs.SAVE_EVERY))
    evaluation = int(drawn.integers(0, runs.STEPS // runs.EVAL_EVERY))
    seen: set[Path] = set()

    def count(path: Path) -> int:
        return path.read_bytes().count(b"\n") if path.is_file() else 0

    def drafts(run_dir: Path) -> bool:
        seen.update((run_dir / "checkpoints").glob(".*"))
        return len(seen) >= write

    def log_ends_soon(run_dir: Path) -> bool:
        """Whether the next lines do not fit into the page that the log has, and nothing else comes first."""
        log = run_dir / "train.jsonl"
        steps, due = count(log), LINES * (count(log) // runs.EVAL_EVERY)
        left = -log.stat().st_size % PAGE if steps else PAGE
        return left < 2 * 130 and steps % runs.EVAL_EVERY < 7 and count(run_dir / "eval.jsonl") == due

    few = {"train__save_every": 25}
    return {
        "a step": (lambda run: count(run / "train.jsonl") >= step, {}),
        "a line of train.jsonl": (log_ends_soon, few),
        "a checkpoint's write": (drafts, {}),
        "an evaluation": (lambda run: count(run / "eval.jsonl") >= max(evaluation, 1) * LINES, few),
        "the folder": (lambda run: (run / "config.yaml").is_file(), {}),
        "the last step": (lambda run: count(run / "train.jsonl") >= runs.STEPS, {}),
        "the final save": (
            lambda run: count(run / "eval.jsonl") >= LINES * (runs.STEPS // runs.EVAL_EVERY),
            {},
        ),
        "a figure": (lambda run: (run / "model").is_dir(), {}),
    }


def point(
    number: int, kind: str, room: int, start: processes.Starter, disk: Disk, expected: Path, seed: int
) -> dict:
    """Let a run meet a full disk; what it did, and whether it resumed well."""
    drawn, work = stream(seed, "disk", number), disk.place.parent
    output, log, settings = disk.place / "runs", work / f"point-{number}.log", {}
    run_dir = runs.folder(output)
    disk.clear(output)
    if kind == "room":
        disk.leave(room)
        running = start(runs.arguments(output), log)
    else:
        reached, settings = events(drawn)[kind]
        running = start(runs.arguments(output, **settings), log)
        if running.until(lambda: reached(run_dir)):
            disk.leave(0)
    status, text = running.wait(), running.text()
    found = {"point": number, "kind": kind, "room": room, "status": status}
    if status == 0:
        # the run is whole, and says which figure it is without
        warned = re.search("^warning: .*No space left.*$", text, re.MULTILINE)
        return {
            **found,
            "met": warned is not None,
            "told": warned[0] if warned else "",
            "file": "figures" if warned else "",
            "checkpoints": len(list_checkpoints(run_dir)),
            "wrong": runs.differences(expected, output),
        }
    told, wrong = runs.told_error(text), []
    wrong += [] if status == 1 else [f"ended with status {status}"]
    wrong += [] if "No space left" in told or "full" in told else ["it does not say that the disk is full"]
    wrong += [] if str(output) in told else ["no file is named"]
    wrong += ["a traceback was printed"] if "Traceback" in text else []
    wrong += harmed(run_dir)
    steps = len(list_checkpoints(run_dir))
    file = re.search(rf"(?<={re.escape(str(run_dir))}/)[^/\s:]+", told)
    disk.make_room(str(drawn.choice(["remount", "ballast"])))
    again = start(runs.arguments(output, **settings), work / f"point-{number}-again.log")
    if (status := again.wait()) != 0:
        wrong.append(f"with room again it ended with status {status}")
    wrong += runs.differences(expected, output)
    if "Traceback" in again.text():
        wrong.append("a traceback was printed by the resumed run")
    printed = {"printed": text[-3000:], "printed again": again.text()[-3000:]} if wrong else {}
    return {
        **found,
        "met": True,
        "told": told,
        "file": file[0] if file else "",
        "checkpoints": steps,
        "wrong": wrong,
        **printed,
    }


def harmed(run_dir: Path) -> list[str]:
    """What a run that met a full disk left broken."""
    wrong = []
    for _, path in list_checkpoints(run_dir):
        try:
            verify(path)
        except CheckpointError as error:
            wrong.append(str(error))
    for name in ("train.jsonl", "eval.jsonl"):
        try:
            runs.lines(run_dir / name)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    return wrong


def plan(points: int, most: int, seed: int) -> list[tuple[str, int]]:
    """(kind, room) of each point: half by the room that there is, from none to almost enough."""
    drawn = stream(seed, "plan")
    by_room = points // 2
    # most of the room goes to the checkpoints; the first and the last of it are of their own interest
    shares = np.linspace(0, 1, by_room) ** 2
    rooms = [
        0,
        *(int(most * share) // PAGE * PAGE - PAGE * int(drawn.integers(1, 4)) for share in shares[1:]),
    ]
    kinds = list(events(drawn))
    drawn.shuffle(kinds)
    return [("room", max(room, 0)) for room in rooms[:by_room]] + [
        (kinds[i % len(kinds)], 0) for i in range(points - by_room)
    ]


def work_through(options: argparse.Namespace, work: Path) -> dict:
    """The report of all points."""
    start = processes.spawns() if options.spawn else processes.forks()
    expected = runs.reference(start, work)[0]
    disk = Disk(work / "disk")
    try:
        before = disk.free()
        if start(runs.arguments(disk.place / "runs"), work / "whole.log").wait() != 0:
            raise RuntimeError("the run failed on a disk with room")
        most = before - disk.free()
        results, after = [], []
        points = plan(options.points, most, options.seed)
        shown = bar(total=len(points), desc="full disks", unit="run")
        number = 0
        for kind, room in points:
            for _ in range(5):  # a run may end before the disk is full
                found = point(number, kind, room, start, disk, expected, options.seed)
                number += 1
                if found["met"]:
                    break
                after.append(found)
                room = max(room - 4 * PAGE, 0)
            results.append(found)
            shown.update()
        shown.close()
    finally:
        disk.unmount()
    wrong = [each for each in results if not each["met"] or each["wrong"]]
    return {
        "command": f"python -m tests.faults.disk --points {options.points} --seed {options.seed}",
        "points": len(results),
        "told, unharmed and resumed": len(results) - len(wrong),
        "bytes of a whole run": most,
        "files": dict(collections.Counter(each.get("file", "") for each in results).most_common()),
        "kinds": dict(collections.Counter(each["kind"] for each in results)),
        "ended before the disk was full": len(after),
        "results": results,
        "failures": wrong,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.disk", description=__doc__)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--spawn", action="store_true", help="start Python anew for each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    options = parser.parse_args(argv)
    if OWN not in os.environ:
        own = namespace()
        if own is None:
            sys.stderr.write("error: no tmpfs can be mounted here; it takes root or `unshare -mr`\n")
            return 2
        again = [*own, sys.executable, "-m", "tests.faults.disk", *(sys.argv[1:] if argv is None else argv)]
        return subprocess.run(again, env={**os.environ, OWN: "1"}).returncode
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        report = work_through(options, Path(name))
    runs.write_report(options.output, report)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
