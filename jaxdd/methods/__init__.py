"""Published distillation methods, one file each. `build(name, **hyperparameters)` makes one by name."""

from jaxdd.methods._registry import available, build, fields
from jaxdd.methods.bilevel import Bilevel, Inner, bilevel
from jaxdd.methods.bptt import BPTT, LinBa, bptt, linba
from jaxdd.methods.dd import DD, dd
from jaxdd.methods.frepo import FRePo, frepo
from jaxdd.methods.kip import KIP, kip
from jaxdd.methods.rat_bptt import RaTBPTT, rat_bptt
from jaxdd.methods.rcig import RCIG, rcig
from jaxdd.methods.rfad import RFAD, rfad
from jaxdd.methods.soft_label_dd import SoftLabelDD, soft_label_dd

__all__ = [
    "BPTT",
    "DD",
    "KIP",
    "RCIG",
    "RFAD",
    "Bilevel",
    "FRePo",
    "Inner",
    "LinBa",
    "RaTBPTT",
    "SoftLabelDD",
    "available",
    "bilevel",
    "bptt",
    "build",
    "dd",
    "fields",
    "frepo",
    "kip",
    "linba",
    "rat_bptt",
    "rcig",
    "rfad",
    "soft_label_dd",
]
