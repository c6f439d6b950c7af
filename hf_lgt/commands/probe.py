"""How far does a checkpoint extrapolate, and what would teach it to?

`python recipes/probe.py MODEL [MODEL ...] --minutes 30`: a battery of short trainings on each model, alone
and with auxiliaries, evaluated to four times the trained length, beside its random twin and beside reference
results. MODEL is a Hub id, a local folder or .gguf file, package:NAME, or NAME@REVISION. The same command
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from hf_lgt.commands import cli
from hf_lgt.config.shipped import shipped_recipes

PLACE = shipped_recipes() / "probe"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("How far does a checkpoint extrapolate, and what would teach it to?")
    arguments.add_argument("models", nargs="+", metavar="MODEL", help="what is probed")
    arguments.add_argument(
        "--minutes", type=cli.minutes, help="most time it may take; what fits is said first"
    )
    arguments.add_argument("--families", help="some of the battery's, as copy,reverse")
    arguments.add_argument("--seeds", help="of initialisation and data [0]; five give intervals: 0,1,2,3,4")
    arguments.add_argument("--lora", action="store_true", help="train adapters (the twins are trained whole)")
    arguments.add_argument("--jobs", type=cli.positive, help="trainings at a time [as fit cores and memory]")
    arguments.add_argument(
        "--references",
        type=cli.folder,
        default=PLACE,
        help="folder of other probes' probe.json files",
    )
    arguments.add_argument(
        "--battery", type=cli.path, default=str(PLACE / "battery.yaml"), help="another battery's file"
    )
    known, overrides = cli.parse_options(arguments, argv)

    return cli.guard(lambda: _probe(known, overrides))


def _probe(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    from hf_lgt.commands.probing import Wanted, run_probe
    from hf_lgt.experiments.probe.battery import chosen, load_battery

    families = known.families.split(",") if known.families else []
    battery = chosen(load_battery(known.battery), families, cli.seeds(known.seeds) if known.seeds else ())
    output = [o for o in overrides if o.startswith("output_dir=")]
    wanted = Wanted(
        models=known.models,
        battery=battery,
        overrides=[o for o in overrides if o not in output],
        output_dir=output[-1].partition("=")[2] if output else "runs",
        references=sorted(known.references.glob("*.json")),
    )
    return run_probe(dataclasses.replace(wanted, minutes=known.minutes, jobs=known.jobs, lora=known.lora))


if __name__ == "__main__":
    sys.exit(main())
