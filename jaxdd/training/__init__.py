"""Training that is not differentiated: of fresh networks on sets in memory and, as stages, of networks on real data."""

from jaxdd.training import protocols
from jaxdd.training.as_distilled import check_as_distilled, fit_as_distilled, running_statistics
from jaxdd.training.class_statistics import class_statistics
from jaxdd.training.convexified import convexified, path_lengths, way_points
from jaxdd.training.curriculum import curriculum
from jaxdd.training.dynamics import Dynamics, dynamics, dynamics_stage
from jaxdd.training.experts import STORES, Compact, Trajectories, compact, experts
from jaxdd.training.fit import Fitted, check_trainable, fit
from jaxdd.training.fitted import fitted
from jaxdd.training.infobatch import infobatch
from jaxdd.training.inpainting import inpainting, inpainting_step
from jaxdd.training.protocols import Protocol
from jaxdd.training.schedules import optimizer_of, schedule_of
from jaxdd.training.seen import Seen, few_at_a_time, seen
from jaxdd.training.selfsupervised import barlow_twins, encoded, num_blocks
from jaxdd.training.sharpness import sharpness_aware
from jaxdd.training.smooth import smooth
from jaxdd.training.step import Slope, TrainingState, train_step
from jaxdd.training.supervised import supervised
from jaxdd.training.teachers import descending, teacher
from jaxdd.training.two_headed import (
    TWO_HEADED,
    Heads,
    Student,
    fit_two_headed,
    heads,
    seen_by,
    two_headed,
    two_headed_loss,
)

__all__ = [
    "STORES",
    "TWO_HEADED",
    "Compact",
    "Dynamics",
    "Fitted",
    "Heads",
    "Protocol",
    "Seen",
    "Slope",
    "Student",
    "TrainingState",
    "Trajectories",
    "barlow_twins",
    "check_as_distilled",
    "check_trainable",
    "class_statistics",
    "compact",
    "convexified",
    "curriculum",
    "descending",
    "dynamics",
    "dynamics_stage",
    "encoded",
    "experts",
    "few_at_a_time",
    "fit",
    "fit_as_distilled",
    "fit_two_headed",
    "fitted",
    "heads",
    "infobatch",
    "inpainting",
    "inpainting_step",
    "num_blocks",
    "optimizer_of",
    "path_lengths",
    "protocols",
    "running_statistics",
    "schedule_of",
    "seen",
    "seen_by",
    "sharpness_aware",
    "smooth",
    "supervised",
    "teacher",
    "train_step",
    "two_headed",
    "two_headed_loss",
    "way_points",
]
