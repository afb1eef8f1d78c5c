"""One training: the loop, what it reads ahead, what it measures, saves and evaluates. Nothing here knows of sweeps."""
