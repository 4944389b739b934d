"""What the coordinator remembers. Rows are in a database, bundles and hook output are files."""

from shiftwork_coordinator.store.blobs import Bundles, Outputs
from shiftwork_coordinator.store.changes import (
    Add,
    Audit,
    Change,
    Delete,
    Fenced,
    NoneActive,
    Put,
    PutEvent,
    PutMeta,
    Unchanged,
)
from shiftwork_coordinator.store.lease import DataDirectory, Lease
from shiftwork_coordinator.store.retention import Limits, prune
from shiftwork_coordinator.store.retention_upgrades import prune_upgrades
from shiftwork_coordinator.store.store import Store

__all__ = [
    "Add",
    "Audit",
    "Bundles",
    "Change",
    "DataDirectory",
    "Delete",
    "Fenced",
    "Lease",
    "Limits",
    "NoneActive",
    "Outputs",
    "Put",
    "PutEvent",
    "PutMeta",
    "Store",
    "Unchanged",
    "prune",
    "prune_upgrades",
]
