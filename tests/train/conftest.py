"""Small shards to train on."""

from __future__ import annotations

import pytest
import small_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> small_corpus.Corpus:
    return small_corpus.make(tmp_path_factory.mktemp("corpus"))
