# Compose as the target servers have it, for tests of `docker compose config` that need no daemon.
set -euo pipefail
mkdir -p "$1"
cp "$SLIPWAY_CACHE/rootfs/usr/libexec/docker/cli-plugins/docker-compose" "$1/docker-compose"
"$1/docker-compose" version >/dev/null
