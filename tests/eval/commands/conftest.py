"""Reports are drawn by the tests of `report`, and here by those that are marked so."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def sketched(request: pytest.FixtureRequest) -> None:
    if not request.node.get_closest_marker("pictures"):
        request.getfixturevalue("sketches")
