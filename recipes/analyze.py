"""Look into what runs have learned.

The same as `hf-lgt analyze`.
"""

import sys

from hf_lgt.commands.analyze import main

if __name__ == "__main__":
    sys.exit(main())
