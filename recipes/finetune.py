"""Train one run: `accelerate launch recipes/finetune.py [--config FILE] [--section.key VALUE ...]`.

The same as `hf-lgt finetune`.
"""

import sys

from hf_lgt.commands.finetune import main

if __name__ == "__main__":
    sys.exit(main())
