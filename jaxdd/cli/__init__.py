"""The command line: `jaxdd distill | evaluate | show | export | list`."""

from jaxdd.cli.main import main

__all__ = ["main"]
