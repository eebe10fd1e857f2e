# What systemd would do on a target server: mounts, firewall, sshd, dockerd.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/sshd /run/lock

mount -t tmpfs -o mode=755 tmpfs /dev
while read -r name major minor; do
  mknod -m 666 "/dev/$name" c "$major" "$minor"
done <<'DEVICES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
DEVICES
mkdir /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
  ln -s "fd/${number%:*}" "/dev/${number#*:}"
done

if grep -q '^0::/' /proc/self/cgroup && [ "$(wc -l </proc/self/cgroup)" = 1 ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # Controllers can be handed down only from a group without processes.
  mkdir -p /sys/fs/cgroup/init
  while read -r pid; do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs; done </sys/fs/cgroup/cgroup.procs 2>/dev/null
  sed 's/\(^\| \)\([a-z]\)/\1+\2/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
else
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  while IFS=: read -r _ controllers _; do
    [ "$controllers" ] || continue
    tree=/sys/fs/cgroup/${controllers#name=}
    mkdir -p "$tree"
    case $controllers in name=*) controllers=none,$controllers ;; esac
    mount -t cgroup -o "$controllers" cgroup "$tree" || rmdir "$tree"
  done </proc/self/cgroup
fi
mount --make-rshared /

grep -q '^ENABLED=yes' /etc/ufw/ufw.conf && /usr/lib/ufw/ufw-init start
/usr/sbin/sshd -E /var/log/sshd.log
# As systemd does: one that dies is started again, and its containers live on until then.
while :; do
  dockerd --ip6tables=false >>/var/log/dockerd.log 2>&1
  sleep 1
done
