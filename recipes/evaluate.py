"""Evaluate a saved run or any local checkpoint at other lengths.

The same as `hf-lgt evaluate`.
"""

import sys

from hf_lgt.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
