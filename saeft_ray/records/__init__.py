"""What a sweep writes down: rows, trials, looks, its record, and who may write."""
