"""What fine-tuning added and removed, feature by feature: recorded, tested, named, shown."""
