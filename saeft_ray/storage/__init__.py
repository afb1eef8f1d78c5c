"""Where bytes lie: files and artifacts on a local folder, S3 or another URL, checked, retried, written once."""
