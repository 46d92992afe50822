"""`python -m jaxdd`: the command line where no script is installed."""

import sys

from jaxdd.cli import main

if __name__ == "__main__":
    sys.exit(main())
