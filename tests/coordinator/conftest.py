"""Nothing here asks AWS what its groups launch, unless a test says so."""

from __future__ import annotations

import pytest

from shiftwork_coordinator import fleets
from shiftwork_coordinator.testing import MemoryFleets
from shiftwork_coordinator.testing_hooks import MemoryHooks


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "hooks_of", lambda at: MemoryHooks(MemoryFleets()))
