"""What lies in a storage, whose it is, and what may go: for the door `python -m saeft_ray.storage`."""
