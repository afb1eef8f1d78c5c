"""The only folder that imports Ray: artifacts as Ray tasks, trials on Ray Tune, workers on Ray Train."""
