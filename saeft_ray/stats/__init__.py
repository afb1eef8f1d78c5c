"""Pure functions of numpy arrays: intervals, paired tests, corrections, power, two variance sources.

No function here knows what a seed or a test set is: values are floats in any one unit, and every result is in that
unit. Where a number cannot be had (one value, no spread) the result says None, never NaN or infinity.
"""

from saeft_ray.stats.crossed import Crossed, crossed, crossed_mean, seeds_until_items_dominate
from saeft_ray.stats.multiplicity import holm, max_t
from saeft_ray.stats.paired import MIN_PAIRS, Mean, Paired, mean_interval, paired, sign_flip, tost
from saeft_ray.stats.power import break_even_rho, detectable, power, sd_range, smallest_n
from saeft_ray.stats.proportions import clopper_pearson

__all__ = [
    "MIN_PAIRS",
    "Crossed",
    "Mean",
    "Paired",
    "break_even_rho",
    "clopper_pearson",
    "crossed",
    "crossed_mean",
    "detectable",
    "holm",
    "max_t",
    "mean_interval",
    "paired",
    "power",
    "sd_range",
    "seeds_until_items_dominate",
    "sign_flip",
    "smallest_n",
    "tost",
]
