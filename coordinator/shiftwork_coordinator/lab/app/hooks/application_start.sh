#!/bin/sh
# Starts the application in a session of its own, so that it outlives this hook.
set -eu
. "$(dirname "$0")/settings.sh"
if [ -r "$WEB/START_DELAY" ]; then echo "migrating the database"; sleep "$(cat "$WEB/START_DELAY")"; fi
setsid "$PYTHON" "$WEB/server.py" "$ADDRESS" "$PORT" "$NAME" </dev/null >>"$RUN/log" 2>&1 &
echo $! >"$RUN/pid"
echo "started $(cat "$WEB/VERSION") as process $!"
