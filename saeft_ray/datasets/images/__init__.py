"""Image files: found, read from folders or tar shards, cached on a node, decoded, and put together as splits."""
