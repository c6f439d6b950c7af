"""Write the mixture of a config as a dataset: `python recipes/build_dataset.py --config FILE`.

The same as `hf-lgt build-dataset`.
"""

import sys

from hf_lgt.commands.build_dataset import main

if __name__ == "__main__":
    sys.exit(main())
