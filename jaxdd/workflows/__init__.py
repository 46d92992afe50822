"""From a config to files: complete configs, real data, distil, sweep, evaluate, foretell costs. Plain dicts in and out.

What the command line, scripts and notebooks call:

    from jaxdd import workflows
    outcome = workflows.distill({"method": {"name": "kip"}}, "runs/first")
    print(outcome.result["kernel_accuracy"], outcome.path)
"""

from jaxdd.workflows.architectures import architectures
from jaxdd.workflows.config import EVALUATIONS, VALIDATIONS, check_seed, complete, told
from jaxdd.workflows.cost import Planned, Setting, plan
from jaxdd.workflows.data import Real
from jaxdd.workflows.distill import distill
from jaxdd.workflows.evaluate import distilled_file, evaluate
from jaxdd.workflows.outcome import BEST, FILE, RESULTS, Outcome
from jaxdd.workflows.push import Pushed, push
from jaxdd.workflows.quantize import quantize_network
from jaxdd.workflows.queries import ask
from jaxdd.workflows.select import complete as select_config
from jaxdd.workflows.select import select
from jaxdd.workflows.sweep import sweep
from jaxdd.workflows.table import SWEEP, table

__all__ = [
    "BEST",
    "EVALUATIONS",
    "FILE",
    "RESULTS",
    "SWEEP",
    "VALIDATIONS",
    "Outcome",
    "Planned",
    "Pushed",
    "Real",
    "Setting",
    "architectures",
    "ask",
    "check_seed",
    "complete",
    "distill",
    "distilled_file",
    "evaluate",
    "plan",
    "push",
    "quantize_network",
    "select",
    "select_config",
    "sweep",
    "table",
    "told",
]
