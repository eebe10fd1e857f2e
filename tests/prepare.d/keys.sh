# The CA that every target server trusts, one server certificate for all stand-ins of public services, the workers' SSH
# key, the GitHub App's.
# The private keys guard nothing outside a test world.
set -euo pipefail
mkdir -p "$1"
cd "$1"
new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${new_key[@]}" -days 3650 -subj '/CN=Slipway test CA' -keyout ca.key -out ca.pem \
  -addext 'keyUsage=critical,keyCertSign,cRLSign' 2>/dev/null
openssl req "${new_key[@]}" -subj /CN=ghcr.io -keyout server.key -out server.csr 2>/dev/null
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out server.pem -extfile - 2>/dev/null <<'EXT'
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:ghcr.io, DNS:github.com, DNS:api.github.com, DNS:registry-1.docker.io
EXT
rm -f server.csr ca.srl
ssh-keygen -q -t ed25519 -N '' -C slipway-worker -f worker
openssl genrsa -traditional -out app.pem 2048 2>/dev/null
