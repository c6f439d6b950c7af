"""Hostile configs and datasets through the real recipe: never a traceback, never a stray file.

``python -m tests.fuzz --configs 2000 --datasets 500 --seed 0`` calls the main of recipes/finetune.py on
each case in a fresh folder. A case ends well with status 0, 2, or 1 and an ``error:`` line; it prints no
control characters, and writes nothing but its run's folder, nothing at all where it is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

# nothing here may reach out; read when huggingface_hub is imported, which comes later
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

LIMIT_S = 120
"""seconds after which a case counts as one that hangs"""
WORK = Path("deep/down/work")
"""where a case runs, below its own folder: what climbs out of it is still seen"""
MODEL = {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 16}
MOST = {
    "train.steps": 2,
    "train.batch_size": 16,
    "train.length_buckets": 8,
    "eval.examples": 16,
    "eval.mistakes": 4,
    "eval.batch_tokens": 65_536,
}
"""what is cut down where a config is fine but large"""
TURNS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
"""kinds of characters that change the direction of what follows"""


class TookTooLong(BaseException):
    """Nothing but this script catches it."""


@dataclass(frozen=True)
class Case:
    """One call of the recipe."""

    argv: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    """path below the working folder -> content"""
    prepare: Callable[[], None] = lambda: None
    """makes what is no plain file, in the working folder"""
    what: str = ""
    """what it makes"""

    @property
    def key(self) -> str:
        """The same for the same case."""
        return repr((self.argv, sorted(self.files.items()), self.what))


@dataclass
class Tally:
    """What came of the cases."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Counts by status, faults and seconds."""
        return {
            "cases": sum(self.statuses.values()),
            "accepted": self.statuses["0"],
            "refused": self.statuses["2"],
            "ended_with_an_error": self.statuses["1"],
            "other": sum(n for status, n in self.statuses.items() if status not in "012"),
            "faulty": len(self.faults),
            "seconds": round(self.seconds, 1),
            "slowest_s": round(self.slowest, 1),
        }


def say(text: str) -> None:
    """A line at once, also where nobody looks."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def recipe_main() -> Callable[[Sequence[str]], int]:
    """The main of recipes/finetune.py."""
    spec = importlib.util.spec_from_file_location("finetune", ROOT / "recipes" / "finetune.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[Sequence[str]], int] = module.main
    return main


def config_of(argv: Sequence[str]) -> Any:
    """The config that a call asks for, None where it is not valid."""
    from hf_lgt import cli, load_config
    from hf_lgt.config import ConfigError

    arguments = cli.parser("")
    arguments.add_argument("--config")
    arguments.add_argument("--overwrite", action="store_true")
    cli.add_hub_options(arguments, "")
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            known, overrides = cli.parse(arguments, argv)
            return load_config(known.config, overrides)
    except (ConfigError, SystemExit):
        return None


def cut_down(config: Any) -> list[str]:
    """Options that make a valid config small."""
    data, options = config.to_dict(), {"train.compile": "false"}
    for key, most in MOST.items():
        section, name = key.split(".")
        if data[section][name] > most:
            options[key] = str(most)
    if config.train.gradient_accumulation_steps > 4:
        options["train.gradient_accumulation_steps"] = "4"
    if config.model.name_or_path is None and any((getattr(config.model, k) or 0) > 64 for k in MODEL):
        options |= {f"model.{key}": str(value) for key, value in MODEL.items()}
        options["model.kv_heads"] = "null"
    low, high = config.eval.lengths
    if high - low > 20 * config.eval.every:
        options["eval.every"] = str((high - low) // 10)
    return [word for key, value in options.items() for word in (f"--{key}", value)]


def is_control(character: str) -> bool:
    """Whether a terminal may act on it, or cannot take it."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def everything(folder: Path) -> set[str]:
    """Every path below a folder, hidden ones too."""
    return {f"{at}/{name}" for at, *both in os.walk(folder) for names in both for name in names}


def verdict(status: object, out: str, error: str, new: set[str], home: Path | None) -> str | None:
    """What is wrong with how a case ended, if anything."""
    # what a bar moves about with
    told = (out + error).replace("\r", "").replace("\x1b[A", "")
    if status not in (0, 1, 2):
        return f"status {status!r}"
    if "Traceback" in told:
        return "a traceback"
    if status and "error:" not in error:
        return "no error line"
    odd = sorted(c for c in set(told) - set("\n\t") if unicodedata.bidirectional(c) in TURNS or is_control(c))
    if odd:
        return f"control characters {odd!r}"
    own: set[str] = set()
    if home and status != 2:
        # of `x/../y` the folder x is made too, as the path says
        own = {os.path.normpath(part) for part in (home, *home.parents)}
        own |= {p for p in new if Path(p).is_relative_to(os.path.normpath(home))}
    stray = new - own
    return f"stray files {sorted(stray)[:5]}" if stray else None


def run_case(main: Callable[[Sequence[str]], int], case: Case, tally: Tally) -> None:
    """Take one case through the recipe, in a folder of its own."""
    root = Path(tempfile.mkdtemp(prefix="hf_lgt-fuzz-")).resolve()
    before, began = Path.cwd(), time.perf_counter()
    (root / WORK).mkdir(parents=True)
    os.chdir(root / WORK)
    # as a terminal's: stdout takes no lone surrogate
    out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8", e) for e in ("strict", "backslashreplace"))
    argv, status, why = case.argv, None, None
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT_S)
    try:
        for path, content in case.files.items():
            Path(path).write_bytes(content)
        case.prepare()
        found = everything(root)
        if config := config_of(argv):
            argv = [*argv, *cut_down(config)]
        home = Path.cwd() / config.run_dir if config else None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                status = main(argv)
            except SystemExit as end:  # what the argument parser refuses
                status = end.code or 0
        said = [stream.buffer.getvalue().decode() for stream in (out, error) if not stream.flush()]
        new = everything(root) - found
        why = verdict(status, *said, new, home)
    except BaseException as raised:
        if isinstance(raised, KeyboardInterrupt):
            raise
        status, why = "raised", f"{type(raised).__name__}: {raised}"
        at = raised.__traceback__
        while at and at.tb_next:
            at = at.tb_next
        why += f" at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
    finally:
        signal.alarm(0)
        os.chdir(before)
        shutil.rmtree(root, ignore_errors=True)
    took = time.perf_counter() - began
    tally.statuses[str(status)] += 1
    tally.seconds += took
    tally.slowest = max(tally.slowest, took)
    if why:
        files = {name: repr(content[:2000]) for name, content in case.files.items()}
        tally.faults.append({"why": ascii(why), "argv": ascii(argv), "files": files})
        say(f"FAULT {ascii(why)[:400]}\n  {ascii(argv)[:400]}")


def _give_up(signum: int, frame: object) -> None:
    raise TookTooLong(f"more than {LIMIT_S} s")


def drive(cases: Any, count: int, seed: int, what: str) -> Tally:
    """Draw so many cases and run them."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    main, tally, seen = recipe_main(), Tally(), set()

    @seeded(seed)
    @settings(
        max_examples=max(1, 6 * count),  # many are alike, and some are drawn twice
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def each(case: Case) -> None:
        done = sum(tally.statuses.values())
        if done == count or case.key in seen:
            return
        seen.add(case.key)
        run_case(main, case, tally)
        if (done := done + 1) % 100 == 0:
            say(f"{what}: {done} of {count}, {tally.seconds:.0f} s, {dict(tally.statuses)}")

    if count:
        each()
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Status 1 where a case did not end well."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--configs", type=int, default=2000)
    arguments.add_argument("--datasets", type=int, default=500)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--output", type=Path, help="JSON with the counts and every fault")
    known = arguments.parse_args(argv)
    from tests.fuzz_cases import configs, datasets

    parts = {
        "configs": drive(configs(), known.configs, known.seed, "configs"),
        "datasets": drive(datasets(), known.datasets, known.seed, "datasets"),
    }
    summary = {name: tally.summary() for name, tally in parts.items()}
    if known.output:
        faults = [fault for tally in parts.values() for fault in tally.faults]
        known.output.write_text(json.dumps({**summary, "faults": faults}, indent=1) + "\n")
    for name, counts in summary.items():
        say(f"{name}: " + ", ".join(f"{key} {value}" for key, value in counts.items()))
    return int(any(tally.faults for tally in parts.values()))


if __name__ == "__main__":
    sys.exit(main())
