"""The command line: `jaxdd distill | select | sweep | plan | evaluate | table | show | export | quantize | stages |
list`."""

from jaxdd.cli.config import preset, selection, smoke, template
from jaxdd.cli.main import main

__all__ = ["main", "preset", "selection", "smoke", "template"]
