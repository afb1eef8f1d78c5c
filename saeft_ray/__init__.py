"""Experiment sweeps that test whether a fine-tuning method keeps CLIP robust."""

__version__ = "0.1.0"
