"""Fixtures that several test files share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from saeft_ray.storage.location import _connected

from s3_server import S3Server, start, stop

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # of machines that tests start; else Ray writes a token at home
settings.register_profile("untimed", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("untimed")
# Ray's workers are nice by 15: beside another test they would get next to nothing, and deadlines would pass.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback, started once a session."""
    server, process = start(tmp_path_factory.mktemp("s3"))
    yield server
    stop(server, process)


@pytest.fixture
def no_figures_for_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose PDF and PNG are empty: they take most of its time, and one test of tests/test_report.py has them,
    in processes of its own."""
    from saeft_ray.report.render.plots import Plot

    monkeypatch.setattr(Plot, "as_file", lambda plot, form: b"")


@pytest.fixture
def s3_url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh bucket as s3://…, with the server's credentials and endpoint in the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _connected.cache_clear()  # what another test connected has looked for credentials already
    return f"s3://{s3.bucket()}"
