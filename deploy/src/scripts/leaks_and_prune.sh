# Parameters: needles logins prefix request? report ports comment; after project_files.sh, front_door.sh, containers.sh,
# lock.sh, as_left.sh, leak_sweep.sh, look_after.sh. After an attempt: tells what runs, and looks after what the attempt
# leaves.
[ -d "$dir" ] || exit 0
see_own
tell_origins "$inspected"

# On a full disk the project can't even be locked: what runs is told already, the rest can wait.
[ "$(df -k --output=avail "$dir" | tail -n 1)" -ge 64 ] || exit 0
enter
look_after
