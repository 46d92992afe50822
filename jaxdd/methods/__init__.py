"""Published distillation methods, one file each. `build(name, **hyperparameters)` makes one by name."""

from jaxdd.methods._registry import available, build, fields, revisions
from jaxdd.methods.bilevel import Bilevel, Inner, bilevel
from jaxdd.methods.bptt import BPTT, LinBa, bptt, linba
from jaxdd.methods.cafe import CAFE, cafe
from jaxdd.methods.datadam import DataDAM, datadam
from jaxdd.methods.dc import DC, DSA, dc, dsa
from jaxdd.methods.dd import DD, dd
from jaxdd.methods.dm import DM, dm
from jaxdd.methods.frepo import FRePo, frepo
from jaxdd.methods.idc import IDC, idc
from jaxdd.methods.kip import KIP, kip
from jaxdd.methods.matching import Classes, Matching, match_gradients, match_layers, matching, one_network
from jaxdd.methods.mtt import MTT, mtt
from jaxdd.methods.ncfm import NCFM, ncfm
from jaxdd.methods.rat_bptt import RaTBPTT, rat_bptt
from jaxdd.methods.rcig import RCIG, rcig
from jaxdd.methods.rfad import RFAD, rfad
from jaxdd.methods.soft_label_dd import SoftLabelDD, soft_label_dd

__all__ = [
    "BPTT",
    "CAFE",
    "DC",
    "DD",
    "DM",
    "DSA",
    "IDC",
    "KIP",
    "MTT",
    "NCFM",
    "RCIG",
    "RFAD",
    "Bilevel",
    "Classes",
    "DataDAM",
    "FRePo",
    "Inner",
    "LinBa",
    "Matching",
    "RaTBPTT",
    "SoftLabelDD",
    "available",
    "bilevel",
    "bptt",
    "build",
    "cafe",
    "datadam",
    "dc",
    "dd",
    "dm",
    "dsa",
    "fields",
    "frepo",
    "idc",
    "kip",
    "linba",
    "match_gradients",
    "match_layers",
    "matching",
    "mtt",
    "ncfm",
    "one_network",
    "rat_bptt",
    "rcig",
    "revisions",
    "rfad",
    "soft_label_dd",
]
