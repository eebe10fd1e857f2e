# PID 1 of a target server: assembles its root from the shared lower layer and its own disk, moves there, boots.
# Arguments: the server's folder, the shared root file system, host name, address, gateway, IPv6 address.
set -euo pipefail
disk=$1 shared=$2 name=$3 address=$4 gateway=$5 address_v6=$6

cd "$disk"
mkdir -p upper work root docker
hostname "$name"
mount -t overlay overlay -o "lowerdir=$shared,upperdir=$disk/upper,workdir=$disk/work" root
cd root
cp ../../hosts etc/hosts
echo "127.0.1.1 $name" >>etc/hosts
echo "$name" >etc/hostname
: >etc/resolv.conf
# overlay2 does not work on an overlay: Docker's data lies on the disk below.
mkdir -p var/lib/docker
mount --bind ../docker var/lib/docker
mount -t proc proc proc

# The cable is plugged in from outside.
until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done
ip link set lo up
ip addr add "$address/24" dev eth0
ip addr add "$address_v6/64" dev eth0 nodad
ip link set eth0 up
# Never routed further: the world has no way out.
ip route add default via "$gateway"

mkdir -p .old
pivot_root . .old
exec chroot . /bin/sh -c 'umount -l /.old; rmdir /.old; umount /sys 2>/dev/null; exec tini -g -- sh /usr/sbin/world-init'
