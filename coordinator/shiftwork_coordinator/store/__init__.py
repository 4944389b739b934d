"""What the coordinator remembers. Rows are in a database, bundles and hook output are files."""

from shiftwork_coordinator.store.blobs import Bundles, Outputs
from shiftwork_coordinator.store.changes import (
    Add,
    Audit,
    Change,
    Delete,
    Fenced,
    Put,
    PutEvent,
    PutMeta,
    Unchanged,
)
from shiftwork_coordinator.store.lease import DataDirectory, Lease
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
    "Outputs",
    "Put",
    "PutEvent",
    "PutMeta",
    "Store",
    "Unchanged",
]
