"""Pretrain a small model: `accelerate launch recipes/pretrain.py [--config FILE] [--section.key VALUE ...]`.

The same as `hf-lgt pretrain`.
"""

import sys

from hf_lgt.commands.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
