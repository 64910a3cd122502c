"""Paired statistics: arrays in, estimates out (numpy and scipy only)."""

from probes.stats.bootstrap import bootstrap
from probes.stats.clustered import Bounds, clustered_mean, score_test
from probes.stats.contrast import ContrastMethod, contrast
from probes.stats.did import DID_WEIGHTS, DIFFERENCE_WEIGHTS, did_logit, headroom
from probes.stats.equivalence import Equivalence, equivalence
from probes.stats.estimate import ALPHA, POWER, Estimate
from probes.stats.latent import latent_alike, latent_shared
from probes.stats.multiplicity import benjamini_hochberg, holm
from probes.stats.permutation import sign_flip
from probes.stats.pooling import LeftOutRange, leave_one_out, pooled
from probes.stats.power import (
    PowerOptions,
    Spread,
    design_effect,
    discordance_range,
    items_needed,
    largest_discordance,
    minimum_effect,
    power,
    sd_did,
    sd_gain,
    sd_square,
)
from probes.stats.proportions import accuracy, tango, wilson
from probes.stats.score import ScoreTest
from probes.stats.simulate import TrueEffect, power_by_resampling, power_by_simulation

__all__ = [
    "ALPHA",
    "DID_WEIGHTS",
    "DIFFERENCE_WEIGHTS",
    "POWER",
    "Bounds",
    "ContrastMethod",
    "Equivalence",
    "Estimate",
    "LeftOutRange",
    "PowerOptions",
    "ScoreTest",
    "Spread",
    "TrueEffect",
    "accuracy",
    "benjamini_hochberg",
    "bootstrap",
    "clustered_mean",
    "contrast",
    "design_effect",
    "did_logit",
    "discordance_range",
    "equivalence",
    "headroom",
    "holm",
    "items_needed",
    "largest_discordance",
    "latent_alike",
    "latent_shared",
    "leave_one_out",
    "minimum_effect",
    "pooled",
    "power",
    "power_by_resampling",
    "power_by_simulation",
    "score_test",
    "sd_did",
    "sd_gain",
    "sd_square",
    "sign_flip",
    "tango",
    "wilson",
]
