"""Data put on S3 for the tests, by another library than the one under test."""

import os
from typing import Any

import fsspec


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of `url` and the path in it."""
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]} if url.startswith("s3://") else {}
    fs, path = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    return fs, str(path)
