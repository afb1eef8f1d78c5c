"""Experiment sweeps that test whether a fine-tuning method keeps CLIP robust."""

from importlib import metadata

try:
    __version__ = metadata.version("saeft_ray")
except metadata.PackageNotFoundError:  # a copy that was never installed
    __version__ = "unknown"
