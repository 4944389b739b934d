# Sourced by every hook: where this instance keeps the application, and how it is reached.
ROOT=${SHIFTWORK_INSTALL_ROOT:-}
ROOT=${ROOT%/}
WEB=$ROOT/opt/web
RUN=$ROOT/var/lib/demo-app
PYTHON=python3
ADDRESS=0.0.0.0
CHECK=127.0.0.1
PORT=8080
NAME=$(uname -n)
if [ -r "$ROOT/etc/demo-app.env" ]; then . "$ROOT/etc/demo-app.env"; fi
