"""Fixtures that several parts of the tests share: an S3 endpoint on this machine, and real recordings."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# As many processes as CPUs run tests: threads besides would wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from fault_proxy import FaultProxy
from project import REPO

from shard_tools import storage
from shard_tools.storage import StoragePolicy

# No test asserts a time: what an example takes here depends on who else uses the machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

REAL_AUDIO = REPO.parent / "shared" / "data"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names for the tests of bytes that do not hold the bytes: libsndfile writes the time into some.

    Two processes that collect in different seconds would else not agree on what tests there are.
    """
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those on SLURM first, which wait for it most of the time, then fast ones, then whole runs."""

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("slow") is None:
            return 1
        return 0 if item.get_closest_marker("slurm") else 2

    items.sort(key=turn)
    for item in items:
        if turn(item) == 0:
            item.add_marker(pytest.mark.timeout(1200))  # many starts of several processes, one after another


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes two take the tests on SLURM, each with a SLURM of its own and half of the files.

    xdist's own groups do nothing under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Halves(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if not path.startswith(("tests/slurm/test_slurm_", "tests/slurm/test_cluster")):
                return nodeid
            return "slurm, a" if path.endswith(("_s3.py", "_survival.py")) else "slurm, b"

    return Halves(config, log)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server on a free port of 127.0.0.1, which AWS's environment variables point to."""
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, ",".join(filter(None, [os.environ.get(name), host])))
        yield endpoint
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> str:
    """The URL ("s3://name") of a fresh, empty bucket."""
    from s3fs import S3FileSystem

    name = f"test-{uuid.uuid4().hex[:12]}"
    S3FileSystem(use_listings_cache=False, skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def faulty_s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy that AWS's environment variables point to; harmless until its `set_faults` is called."""
    from s3fs import S3FileSystem

    proxy = FaultProxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    S3FileSystem.clear_instance_cache()
    yield proxy
    S3FileSystem.clear_instance_cache()
    proxy.stop()


@pytest.fixture
def storage_policy() -> Iterator[Callable[[StoragePolicy], None]]:
    """Sets the storage policy until the test ends."""
    before = storage.current_policy()
    yield storage.configure
    storage.configure(before)


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """The folder of real recordings beside the project; the test is skipped where it is absent."""
    if not REAL_AUDIO.is_dir():
        pytest.skip(f"no real audio at {REAL_AUDIO}")
    return REAL_AUDIO
