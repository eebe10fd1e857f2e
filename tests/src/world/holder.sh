# The world's first process: PID 1 of its PID namespace. Sets up the network and the names in it, says so, then holds
# everything until its stdin ends, which happens when the test process is gone, however it went. The kernel then ends
# every process of the namespace, and the mounts and links go with the last of them.
# Arguments: the world's folder.
set -euo pipefail
cd "$1"

# Names come from these files only, for whoever enters the mount namespace. Nothing outside sees them.
mount --bind hosts /etc/hosts
[ ! -e /etc/resolv.conf ] || mount --bind resolv.conf "$(readlink -f /etc/resolv.conf)"
hostname world

ip link set lo up
ip link add br0 type bridge
ip link set br0 up
while read -r address; do
  case $address in
  *:*) ip addr add "$address/64" dev br0 nodad ;;
  *) ip addr add "$address/24" dev br0 ;;
  esac
done <addresses

echo ready
read -r _ || true
