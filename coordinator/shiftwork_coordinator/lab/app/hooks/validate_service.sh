#!/bin/sh
# Passes when the application is warm and answers its front page.
set -eu
. "$(dirname "$0")/settings.sh"
exec "$PYTHON" "$(dirname "$0")/validate.py" "http://$CHECK:$PORT" "$(cat "$WEB/VERSION")"
