# Parameters: needles logins prefix request? report ports comment; after project_files.sh, containers.sh, lock.sh, as_left.sh,
# leak_sweep.sh. After an attempt: tells what runs, writes down how a success has left the server,
# removes images that nobody needs any more, and tells in which places known secrets stand that shouldn't, never the
# secrets.
[ -d "$dir" ] || exit 0
tell_origins

# On a full disk the project can't even be locked: what runs is told already, the rest can wait.
[ "$(df -k --output=avail "$dir" | tail -n 1)" -ge 64 ] || exit 0
enter
# Left by a command that was killed.
rm -rf .slipway/put .slipway/link .slipway/note

# prune: removes images of this project's own repository that no container names, no project's .env, and no release that
# may be restored. Others deploy meanwhile: a container that goes in between is no failure.
prune() {
    own=$(printf '%s' "$prefix" | base64 -d)
    keep="
$(images "$root"/*/.env "$root"/*/.slipway/served/env)
$(cat "$root"/*/.slipway/previous 2>/dev/null)
$(docker ps -aq | xargs -r docker inspect --format '{{.Config.Image}}' 2>/dev/null || :)
"
    docker image ls --digests --format '{{.Repository}} {{.Tag}} {{.Digest}}' | while read -r repository tag digest; do
        case $repository in "$own"*) ;; *) continue ;; esac
        case $keep in
        *"
$repository:$tag
"* | *"
$repository:$tag@"* | *"@$digest
"*) continue ;;
        esac
        reference=$repository:$tag
        if [ "$tag" = '<none>' ]; then reference=$repository@$digest; fi
        # Docker itself refuses what a container uses.
        if docker image rm "$reference" >/dev/null 2>&1; then tell pruned "$reference"; fi
    done
}

# keep_as_left: writes down how the server is left; root alone may, and may read them.
keep_as_left() {
    [ -O / ] && list_containers || return 0
    { printf '%s\n' "$request" "$report" && as_left; } >"$left" || rm -f "$left"
}

prune
if [ -n "${request:-}" ]; then keep_as_left; fi

sweep_project
sweep_folders /root/.docker /home/*/.docker /dev/shm/slipway."$slug".*

# Processes of our own namespace: a container's environment holds the project's secrets rightly.
space=$(stat -Lc %i /proc/self/ns/pid)
pids=$(stat -Lc '%i %n' /proc/[0-9]*/ns/pid 2>/dev/null | sed -n "s|^$space /proc/\([0-9]*\)/ns/pid\$|\1|p")
set --
for pid in $pids; do set -- "$@" "/proc/$pid/cmdline" "/proc/$pid/environ"; done
holding -f - -- "$@" | while IFS=/ read -r _ _ pid file; do
    tell leak "the $file of process $pid ($(cat "/proc/$pid/comm" 2>/dev/null || echo gone))"
done

# What images are pulled with belongs nowhere, not even where the project's own secrets are.
if [ -n "$logins" ]; then
    needles=$logins
    set --
    for file in .env .slipway/served/env infra/.env infra/.env.prod; do
        if [ -f "$file" ] && [ ! -L "$file" ]; then set -- "$@" "$file"; fi
    done
    ids=$(containers)
    if [ -n "$ids" ]; then
        for pid in $(docker inspect --format '{{.State.Pid}}' $ids); do set -- "$@" "/proc/$pid/environ"; done
    fi
    holding -f - -- /dev/null "$@" | while read -r file; do
        case $file in
        /*) tell leak "the environment of one of the project's containers, which has what images are pulled with" ;;
        *) tell leak "$dir/$file, which has what images are pulled with" ;;
        esac
    done
fi
