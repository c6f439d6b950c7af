"""Run every run of a sweep: a grid of settings, arms and seeds, here or on a Slurm cluster.

The same as `hf-lgt sweep`.
"""

import sys

from hf_lgt.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main())
