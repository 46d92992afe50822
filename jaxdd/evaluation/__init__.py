"""What a distilled set is worth: fresh networks trained on it, kernel accuracy, and fair baselines beside it."""

from jaxdd.evaluation.baselines import coreset, full_data_reference, random_real, rules_of
from jaxdd.evaluation.comparison import Row, compare
from jaxdd.evaluation.confusion import Confusion
from jaxdd.evaluation.kernel import Predictor, kernel_accuracy
from jaxdd.evaluation.measurable import Baseline, Measurable, measurable
from jaxdd.evaluation.score import Score, evaluate, selection_examples
from jaxdd.evaluation.transfer import (
    Pretrained,
    TransferRow,
    check_pretraining,
    linear_probe,
    pretrain,
    transfer,
)
from jaxdd.evaluation.verification import Verification, check_fits, verify
from jaxdd.training import Protocol, check_trainable, protocols

__all__ = [
    "Baseline",
    "Confusion",
    "Measurable",
    "Predictor",
    "Pretrained",
    "Protocol",
    "Row",
    "Score",
    "TransferRow",
    "Verification",
    "check_fits",
    "check_pretraining",
    "check_trainable",
    "compare",
    "coreset",
    "evaluate",
    "full_data_reference",
    "kernel_accuracy",
    "linear_probe",
    "measurable",
    "pretrain",
    "protocols",
    "random_real",
    "rules_of",
    "selection_examples",
    "transfer",
    "verify",
]
