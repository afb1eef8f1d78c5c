"""Text without the secrets that a URL or the environment may have put into it."""

import os
import re
from collections.abc import Mapping

_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD", re.IGNORECASE)


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`text` without the values of secret variables of the environment, and without what a URL may carry."""
    for name, value in environment.items():
        if _SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, "***")
    text = re.sub(r"://[^/@\s]+@", "://***@", text)
    return re.sub(r"((?:X-Amz-\w+|Signature|AWSAccessKeyId|token)=)[^&\s'\"]+", r"\1***", text)
