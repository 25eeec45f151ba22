"""A real SLURM for the tests of this folder; they are skipped where it cannot be started."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import small_corpus
from cluster import Cluster, missing


@pytest.fixture(autouse=True)
def paths_of_later_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our programs set this for what they start, in this process where a test calls them here."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    return small_corpus.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 1 + 1000 * (process % 12)  # ports of twelve such thousands are apart (slurm/node/rendezvous.py)
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster", first_job=first) as running:
        yield running


@pytest.fixture
def cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    """Two idle nodes without jobs: whatever a test leaves is cancelled, and a node it stopped is started."""
    yield session_cluster
    for node in session_cluster.nodes:
        session_cluster.start_node(node)
    session_cluster.cancel_all()
