"""Write a corpus in natural language: `python recipes/language/build.py initials`.

The same as `hf-lgt build-language`.
"""

import sys

from hf_lgt.commands.build_language import main

if __name__ == "__main__":
    sys.exit(main())
