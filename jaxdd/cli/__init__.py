"""The command line: `jaxdd distill | sweep | plan | evaluate | table | show | export | stages | list`."""

from jaxdd.cli.config import preset, smoke, template
from jaxdd.cli.main import main

__all__ = ["main", "preset", "smoke", "template"]
