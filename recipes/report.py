"""Write one HTML page about experiments and runs: what was trained, figures, tables, every run's config.

The same as `hf-lgt report`.
"""

import sys

from hf_lgt.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
