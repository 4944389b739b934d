"""The promises, as properties of a recorded history. Each returns what breaks it; nothing means it holds.

I7, a host's files are the whole old or the whole new revision, is the agent's own and is checked by its tests.
"""

from __future__ import annotations

from collections import Counter

from simulation.history import Fact, History

Broken = list[str]


def floor(history: History) -> Broken:
    """I1: when the engine takes an instance that serves, the others that serve are no fewer than the floor.

    Instances that something else took out lately count as serving until that can be known.
    """
    return [
        f"{f.at:.2f}: {f.instance} taken with {f.data['others']} others serving, minimum {f.data['floor']}"
        for f in history.of("left")
        if f.data["served"] and int(str(f.data["others"])) < int(str(f.data["floor"]))
    ]


def once(history: History) -> Broken:
    """I2: each lifecycle event of a deployment begins at most once on each instance."""
    runs = Counter((f.data["deployment"], f.instance, f.data["event"]) for f in history.of("began"))
    return [f"{instance}: {event} began {n} times" for (_, instance, event), n in runs.items() if n > 1]


def order(history: History) -> Broken:
    """I3: in batches, no target starts while one of an earlier batch is undecided."""
    broken: Broken = []
    under_way: dict[str, int] = {}
    for f in history.of("target"):
        batch = int(str(f.data["batch"]))
        if f.data["status"] != "InProgress":
            under_way.pop(f.instance, None)
            continue
        earlier = [name for name, number in under_way.items() if number < batch]
        if earlier and history.pace == "batches":
            broken.append(f"{f.at:.2f}: {f.instance} of batch {batch} started before {earlier[0]} was decided")
        under_way[f.instance] = batch
    return broken


def quiet(history: History) -> Broken:
    """I4: no target begins AfterBlockTraffic or any later event while the balancer has a request in flight to it,
    but where the policy says to proceed, or the balancer itself has just forgotten that it is out."""
    return [
        f"{f.at:.2f}: {f.instance} began {f.data['event']} with {f.data['flight']} requests in flight"
        for f in history.of("began")
        if f.data["event"] in ("AfterBlockTraffic", "ApplicationStop", "Install")
        and f.data["flight"]
        and not f.data["excused"]
    ]


def ready(history: History) -> Broken:
    """I4, the other way: an instance that was changed goes back into traffic only when its application answers."""
    broken: Broken = []
    changed: set[str] = set()
    for f in history.of("began", "register"):
        if f.kind == "began" and f.data["event"] == "ApplicationStop":
            changed.add(f.instance)
        elif f.kind == "register" and f.instance in changed and not f.data["served"]:
            broken.append(f"{f.at:.2f}: {f.instance} went back into traffic before it answered")
    return broken


def honest(history: History) -> Broken:
    """I5: Succeeded only if every target that counts as succeeded runs the revision, as the host itself says, and at
    least one does."""
    hosts = history.of("host")
    if not hosts:
        return []
    counted = [f for f in hosts if f.data["status"] == "Succeeded"]
    wrong = [f"{f.instance} counts as succeeded but has {f.data['installed']}" for f in counted if _lacks(f, history)]
    return wrong if counted else ["Succeeded without one target that did"]


def _lacks(fact: Fact, history: History) -> bool:
    return fact.data["installed"] != history.revision


def end(history: History) -> Broken:
    """I6: every deployment ends within its bound."""
    fact = history.last("end")
    ended = fact is not None and fact.data["status"] in ("Succeeded", "Failed", "Stopped")
    return [] if ended else [f"still {fact.data['status'] if fact else 'nothing'} after {history.bound:.0f} s"]


def fenced(history: History) -> Broken:
    """I8: no agent obeys a coordinator after it has obeyed a later one."""
    return [
        f"{f.at:.2f}: {f.instance} obeyed stale epoch {f.data['epoch']}"
        for f in history.of("obeyed")
        if f.data["stale"]
    ]


ALL = (floor, once, order, quiet, ready, honest, end, fenced)


def broken(history: History) -> dict[str, Broken]:
    """Every broken promise by name."""
    found = {check.__name__: check(history) for check in ALL}
    return {name: what for name, what in found.items() if what}
