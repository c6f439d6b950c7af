"""Every file of a run's newest checkpoint damaged in every way, in turn: reported, and the run recovers.

python -m tests.faults.damage --output damage.json
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from data_builders.sampling import stream
from hf_lgt.checkpointing.checkpoints import MANIFEST, list_checkpoints, verify
from hf_lgt.utils.errors import CheckpointError
from hf_lgt.utils.progress import bar
from tests.faults import processes, runs

STOPPED_AT = 2 * runs.SAVE_EVERY
"""the step of the newest checkpoint; one is before it"""
SETTINGS = {"train__steps": 2 * STOPPED_AT}


def cut(left: Callable[[int], int]) -> Callable[[Path], None]:
    """A damage: only so many bytes of a file are left."""

    def work(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: left(len(data))])

    return work


def flip(place: Callable[[int], int], bit: int = 0) -> Callable[[Path], None]:
    """A damage: one bit of a file is another."""

    def work(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place(len(data))] ^= 1 << bit
        path.write_bytes(data)

    return work


KINDS: dict[str, Callable[[Path], None]] = {
    "cut to nothing": cut(lambda size: 0),
    "cut to half": cut(lambda size: size // 2),
    "cut by one byte": cut(lambda size: size - 1),
    "first byte flipped": flip(lambda size: 0),
    "middle byte flipped": flip(lambda size: size // 2),
    "last byte flipped": flip(lambda size: size - 1),
    "removed": Path.unlink,
}


def stopped_run(start: processes.Starter, work: Path) -> Path:
    """Where a run lies that was killed when it had written two checkpoints."""
    output = work / "stopped"
    newest = runs.folder(output) / "checkpoints" / f"step-{STOPPED_AT:06d}"
    running = start(runs.arguments(output, **SETTINGS), work / "stopped.log")
    running.until(newest.is_dir)
    running.kill()
    found = [step for step, _ in list_checkpoints(runs.folder(output))]
    if found[:2] != [runs.SAVE_EVERY, STOPPED_AT]:
        raise RuntimeError(f"the checkpoints are {found}:\n{running.text()}")
    for _, path in list_checkpoints(runs.folder(output))[2:]:
        shutil.rmtree(path)  # it was quicker than the kill
    return output


def recovers(
    start: processes.Starter, stopped: Path, work: Path, name: str, kind: str, expected: Path
) -> dict:
    """Damage one file, resume, compare."""
    output, log = work / "damaged", work / "damaged.log"
    for old in (output, log):
        shutil.rmtree(output, ignore_errors=True) if old.is_dir() else log.unlink(missing_ok=True)
    shutil.copytree(stopped, output)
    newest = list_checkpoints(runs.folder(output))[-1][1]
    KINDS[kind](newest / name)
    running = start(runs.arguments(output, **SETTINGS), log)
    status, text = running.wait(), running.text()
    wrong = [] if status == 0 else [f"ended with status {status}"]
    if not any(newest.name in line and _names(name, line) for line in text.splitlines()):
        wrong.append("the file is not named")
    if f"resumes from step {runs.SAVE_EVERY}\n" not in text:
        wrong.append("it did not resume from the checkpoint before")
    wrong += runs.differences(expected, output)
    wrong += ["a traceback was printed"] if "Traceback" in text else []
    return {"file": name, "damage": kind, "wrong": wrong, "printed": text[-3000:] if wrong else ""}


def _names(file: str, told: str) -> bool:
    """Whether a message leads to the damaged file: to any that a damaged manifest no longer agrees with."""
    return file in told or (file == MANIFEST and "checkpoint" in told)


def undetected(checkpoint: Path, work: Path, seed: int, positions: int) -> tuple[int, list[str]]:
    """Looks at a checkpoint with one bit flipped, or cut, at drawn places: how many, and what passed."""
    missed, looks = [], 0
    copy = work / "looked at"
    shutil.copytree(checkpoint, copy)
    verify(copy)
    for file in sorted(copy.iterdir()):
        drawn, whole = stream(seed, "damage", file.name), file.read_bytes()
        for _ in range(positions):
            place, bit = int(drawn.integers(len(whole))), int(drawn.integers(8))
            for what, damage in (
                (f"bit {bit} of byte {place} flipped", flip(lambda _, at=place: at, bit)),
                (f"cut to {place} bytes", cut(lambda _, at=place: at)),
            ):
                damage(file)
                looks += 1
                try:
                    verify(copy)
                    missed.append(f"{file.name}: {what}")
                except CheckpointError as error:
                    if not _names(file.name, str(error)):
                        missed.append(f"{file.name}: {what}: not named in {error}")
                file.write_bytes(whole)
    shutil.rmtree(copy)
    return looks, missed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.damage", description=__doc__)
    parser.add_argument(
        "--positions", type=int, default=50, help="places of each file that are flipped and cut"
    )
    parser.add_argument("--once", action="store_true", help="resume after one kind of damage of each file")
    parser.add_argument("--spawn", action="store_true", help="start Python anew for each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    options = parser.parse_args(argv)
    start = processes.spawns() if options.spawn else processes.forks()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        work = Path(name)
        expected, _ = runs.reference(start, work, **SETTINGS)
        stopped = stopped_run(start, work)
        newest = list_checkpoints(runs.folder(stopped))[-1][1]
        looks, missed = undetected(newest, work, options.seed, options.positions)
        files = sorted(file.name for file in newest.iterdir())
        kinds = list(KINDS)
        cases = [(file, kind) for file in files for kind in kinds]
        if options.once:
            cases = [(file, kinds[i % len(kinds)]) for i, file in enumerate(files)]
        shown = bar(total=len(cases), desc="damage", unit="run")
        results = []
        for file, kind in cases:
            results.append(recovers(start, stopped, work, file, kind, expected))
            shown.update()
        shown.close()
    report = {
        "command": f"python -m tests.faults.damage --positions {options.positions} --seed {options.seed}"
        + (" --once" if options.once else ""),
        "looked at": looks,
        "detected and named": looks - len(missed),
        "missed": missed,
        "files": files,
        "damaged and resumed": len(cases),
        "recovered": sum(not each["wrong"] for each in results),
        "failures": [each for each in results if each["wrong"]],
    }
    runs.write_report(options.output, report)
    return 1 if missed or report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
