"""What plan says beside what the drivers say."""

from __future__ import annotations

from tests.coordinator.engine.engine_tables import snapshot

from shiftwork_coordinator.planning import _uncounted


def test_a_balancer_that_counts_no_requests_leaves_it_to_the_agents() -> None:
    (found,) = _uncounted(snapshot({"readings": {"lb": [["healthy", None, "", 0]]}}))
    assert not found.fatal
    assert found.message.startswith("lb counts no requests")
    assert "`quiet.port`, else each batch waits 60 s" in found.message


def test_nothing_is_said_where_it_counts_or_an_agent_watches_or_nothing_is_known() -> None:
    assert _uncounted(snapshot({"readings": {"lb": [["healthy", 0, "", 0]]}})) == []
    assert _uncounted(snapshot({"readings": {"lb": [["unknown", None, "", 0]]}})) == []
    watched = {"quiet": {"port": 8080}, "readings": {"lb": [["healthy", None, "", 0]]}}
    assert _uncounted(snapshot(watched)) == []
