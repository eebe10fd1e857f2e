# Powers a target server on: joins a control group of its own, then becomes PID 1's parent in new namespaces.
# Arguments: boot script, control group name, then the boot script's arguments.
set -euo pipefail
boot=$1 group=$2
shift 2

# Version 1 has one hierarchy per controller, version 2 has one for all; the name is that of the world's folder.
for tree in /sys/fs/cgroup /sys/fs/cgroup/*/; do
  [ -e "$tree/cgroup.procs" ] && [ ! -L "${tree%/}" ] || continue
  [ "$tree" = /sys/fs/cgroup ] || [ ! -e /sys/fs/cgroup/cgroup.controllers ] || break
  mkdir -p "$tree/$group"
  for path in "$tree/${group%/*}" "$tree/$group"; do
    # A new cpuset is empty and would take no process.
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$path/$file" ] || [ -e /sys/fs/cgroup/cgroup.controllers ] || cat "$path/../$file" >"$path/$file"
    done
    [ ! -e "$path/../cgroup.subtree_control" ] ||
      sed 's/\(^\| \)\([a-z]\)/\1+\2/g' "$path/../cgroup.controllers" >"$path/../cgroup.subtree_control" 2>/dev/null || true
  done
  echo $$ >"$tree/$group/cgroup.procs"
done
exec unshare --net --mount --pid --ipc --uts --cgroup --fork --kill-child --propagation private bash -c "$boot" boot "$@"
