"""Compare arms over seeds, and over pretraining checkpoints where the comparison lists some.

The same as `hf-lgt compare`.
"""

import sys

from hf_lgt.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
