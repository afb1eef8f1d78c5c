"""What runs next, where, and what follows when it fails: from the plan to the three phases."""
