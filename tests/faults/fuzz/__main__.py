"""Hostile input through the real recipes: never a traceback, never a stray file.

``python -m tests.faults.fuzz --configs 2000 --datasets 500 --recipes 2000 --seed 0`` trains with drawn
configs and datasets, and calls every recipe on work of which some files were damaged. Each case is a fork in
a fresh folder. It ends well with status 0, 2, or 1 and an ``error:`` line, within 30 s; it prints no control
characters, and writes nothing but what the recipe is asked for, nothing at all where it is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Nothing here may reach out, and a process that is forked must not have started any pool of threads; read
# when libraries are imported, which comes later.
os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
)  # fmt: skip

from tests.faults.fuzz import template
from tests.faults.fuzz.planned import plan_of, recipe_main
from tests.faults.fuzz.running import LIMIT_S, Case, Ended, run_case

RECIPES = ("finetune", "evaluate", "analyze", "report", "compare", "sweep", "pretrain", "build_dataset")
SHARES = {"evaluate": 2, "analyze": 2}
"""recipes that get more cases than others"""


@dataclass
class Tally:
    """What came of the cases."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    def add(self, case: Case, ended: Ended, what: str) -> None:
        """Count a case."""
        self.statuses[ended.status] += 1
        self.seconds += ended.seconds
        self.slowest = max(self.slowest, ended.seconds)
        if ended.why:
            files = {name: repr(content[:2000]) for name, content in case.files.items()}
            self.faults.append(
                {
                    "of": what,
                    "why": ascii(ended.why),
                    "argv": ascii(ended.argv),
                    "files": files,
                    "what": ascii(case.what)[:4000],
                    "said": ascii(ended.said),
                }
            )
            say(f"FAULT {what} {ascii(ended.why)[:400]}")
            say(f"  {ascii(ended.argv)[:400]}\n  {ascii(case.what)[:600]}")

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


def drawn(cases: Any, seed: int) -> Case:
    """The case of a seed: the first that is drawn at random, as most of those after it would only vary it."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    found: list[Case] = []

    @seeded(seed)
    @settings(
        max_examples=2,  # the first is the smallest that there is
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(st.integers(0, 2**64), cases))
    def each(drawn: tuple[int, Case]) -> None:
        # whatever is drawn first differs from the smallest case; the number does, so that the case need not
        found.append(drawn[1])

    each()
    return found[-1]


def drive(cases: Any, count: int, recipe: str, what: str, known: argparse.Namespace) -> Tally:
    """Draw so many cases of a recipe and run them."""
    main, plan, tally, seen = recipe_main(recipe), plan_of(recipe), Tally(), set()
    for turn in range(10 * count):
        if (done := len(seen)) == count:
            break
        case = drawn(cases, known.seed * 10**9 + turn)
        if case.key in seen:
            continue
        seen.add(case.key)
        tally.add(case, run_case(main, plan, case, known.limit, known.keep), what)
        if (done + 1) % 100 == 0:
            say(f"{what}: {done + 1} of {count}, {tally.seconds:.0f} s, {dict(tally.statuses)}")
    return tally


def shared_out(count: int, recipes: Sequence[str]) -> dict[str, int]:
    """How many cases each recipe gets."""
    parts = [SHARES.get(name, 1) for name in recipes]
    ends = [round(count * sum(parts[:i]) / sum(parts)) for i in range(len(parts) + 1)]
    return {name: ends[i + 1] - ends[i] for i, name in enumerate(recipes)}


def main(argv: Sequence[str] | None = None) -> int:
    """Status 1 where a case did not end well."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--configs", type=int, default=2000, help="of finetune, drawn")
    arguments.add_argument("--datasets", type=int, default=500, help="of finetune, drawn")
    arguments.add_argument(
        "--recipes", type=int, default=2000, help="calls on damaged work, all recipes together"
    )
    arguments.add_argument("--only", nargs="+", choices=RECIPES, default=RECIPES, help="some of the recipes")
    arguments.add_argument("--special", action="store_true", help="also files that never end, in --recipes")
    arguments.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that a case may take [30]")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", type=Path, help="folder for the folders of faulty cases")
    arguments.add_argument("--output", type=Path, help="JSON with the counts and every fault")
    known = arguments.parse_args(argv)
    from tests.faults.fuzz.configs import configs, datasets
    from tests.faults.fuzz.recipes import cases

    os.environ["MPLCONFIGDIR"] = tempfile.gettempdir()  # a cache of fonts, else below each case's own folder
    template.folder()
    wanted = {
        "configs": (configs(), known.configs, "finetune"),
        "datasets": (datasets(), known.datasets, "finetune"),
    }
    for name, count in shared_out(known.recipes, known.only).items():
        wanted[f"recipe {name}"] = (cases(name, known.special), count, name)
    tallies = {
        what: drive(cases_of, count, recipe, what, known)
        for what, (cases_of, count, recipe) in wanted.items()
    }
    summary = {what: tally.summary() for what, tally in tallies.items()}
    if known.output:
        faults = [fault for tally in tallies.values() for fault in tally.faults]
        known.output.write_text(json.dumps({**summary, "faults": faults}, indent=1) + "\n")
    for what, counts in summary.items():
        say(f"{what}: " + ", ".join(f"{key} {value}" for key, value in counts.items()))
    return int(any(tally.faults for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
