"""How far does a checkpoint extrapolate, and what would teach it to?

`python recipes/probe.py MODEL [MODEL ...] --minutes 30`: a battery of short trainings on each model, alone
and with auxiliaries, evaluated to four times the trained length, beside its random twin and beside reference
results. MODEL is a Hub id, a local folder or .gguf file, package:NAME, or NAME@REVISION. The same command
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hf_lgt.commands import cli
from hf_lgt.config.shipped import shipped_recipes

PLACE = shipped_recipes() / "probe"
ABOUT = """How far does a checkpoint extrapolate, and what would teach it to?

Fine-tunes each MODEL on six small families of tasks, with and without related (auxiliary) tasks, until it has
learned them on short inputs, and measures how far beyond these it is right; the same for a random twin (its
architecture with random weights) and, beside them, reference models where some were probed with the same
settings. It takes some minutes a family and model of 135M parameters on two cores. Writes a folder
runs/probe-of-MODEL-...: probe.md, probe.json, probe.png, report/index.html, configs to go on from. The same
command continues where it was stopped.

  hf-lgt probe HuggingFaceTB/SmolLM2-135M --minutes 45
  hf-lgt probe ./mine ./other --families copy,reverse --seeds 0,1,2,3,4"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser(ABOUT)
    told = "Hub id, local folder or .gguf file, package:NAME; NAME@REVISION"
    arguments.add_argument("models", nargs="+", metavar="MODEL", help=told)
    told = "time for all of it, measuring included; what fits is said before [any]"
    arguments.add_argument("--minutes", type=cli.minutes, help=told)
    told = "some of copy,reverse,initials,sort,recall,addition [all]"
    arguments.add_argument("--families", help=told)
    arguments.add_argument("--seeds", help="of initialisation and data [0]; five give intervals: 0,1,2,3,4")
    arguments.add_argument("--lora", action="store_true", help="train adapters (the twins are trained whole)")
    arguments.add_argument("--jobs", type=cli.positive, help="trainings at a time [as fit cores and memory]")
    arguments.add_argument("--output_dir", type=cli.path, default="runs", help="where it is written [runs]")
    told = "another probe's probe.json, or a folder of some [those that come along]"
    arguments.add_argument("--references", type=cli.folder, default=PLACE, metavar="PATH", help=told)
    told = "another battery's file [probe/battery of the recipes]"
    arguments.add_argument("--battery", type=cli.path, default=str(PLACE / "battery.yaml"), help=told)
    known, overrides = cli.parse_options(arguments, argv)

    return cli.guard(lambda: _probe(known, overrides))


def _probe(known: argparse.Namespace, overrides: Sequence[str]) -> int:
    from hf_lgt.commands.probe_plan import Wanted
    from hf_lgt.commands.probing import run_probe
    from hf_lgt.experiments.probe.answers import read_references
    from hf_lgt.experiments.probe.battery import chosen, load_battery

    families = [name.strip() for name in known.families.split(",")] if known.families is not None else []
    battery = chosen(load_battery(known.battery), families, cli.seeds(known.seeds) if known.seeds else ())
    references = read_references(known.references)
    wanted = Wanted(known.models, battery, overrides, known.output_dir, known.minutes, known.jobs, known.lora)
    return run_probe(wanted, references)


if __name__ == "__main__":
    sys.exit(main())
