"""The scripts' parts are imported as they are by the commands beside them."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts"))
