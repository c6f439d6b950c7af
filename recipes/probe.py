"""How far does a checkpoint extrapolate, and what would teach it to?

The same as `hf-lgt probe`.
"""

import sys

from hf_lgt.commands.probe import main

if __name__ == "__main__":
    sys.exit(main())
