"""``python -m hf_lgt``: the command ``hf-lgt``."""

import sys

from hf_lgt.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
