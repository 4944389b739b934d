#!/bin/sh
# Makes the place where the application keeps its process id and log.
set -eu
. "$(dirname "$0")/settings.sh"
mkdir -p "$RUN"
echo "prepared $RUN"
