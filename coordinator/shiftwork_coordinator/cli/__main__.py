"""`python -m shiftwork_coordinator.cli`."""

from shiftwork_coordinator.cli.root import main

main()
