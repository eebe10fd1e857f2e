# Parameters: slug; after project_files.sh. How compose is called, the same for every script.

# files_view ARGUMENTS: compose over the project's files, with the variables of $env_file and no others. The files are a
# stranger's and may name any file of the server, or the network's: compose reads them in a room of its own, in which there
# is nothing but programs and the project's directory, without git's and Slipway's part of it, and with an empty file or
# directory in the place of each one that $hidden has, a path a line.
env_file=.env
hidden=
files_view() {
    if [ -f "$override" ]; then set -- -f "$dir/$override" "$@"; fi
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    case $values in
    .env) set -- --env-file "$dir/.env" -f "$dir/$base" -f "$dir/$prod" "$@" ;;
    *) set -- --env-file "$dir/.slipway/variables" -f "$dir/$base" -f "$dir/$prod" "$@" ;;
    esac
    for plugin in "${HOME:-/root}/.docker" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        plugin=$plugin/cli-plugins/docker-compose
        if [ -x "$plugin" ]; then break; fi
    done
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
        unshare --mount --net --propagation private sh -c "$room" room "$dir" "$values" "$plugin" "$hidden" \
        --project-name "$slug" --project-directory "$dir/infra" "$@" </dev/null
}
room='
dir=$1 room=/dev/shm
furnish() {
    cd "$1" && exec 8<"$2" && mount -t tmpfs -o mode=755,size=16k tmpfs "$room" || return
    for part in /usr /lib /lib32 /lib64 /libx32; do
        if [ -L "$part" ]; then
            cp -P "$part" "$room$part" || return
        elif [ -d "$part" ]; then
            mkdir "$room$part" && mount --bind "$part" "$room$part" || return
        fi
    done
    : >"$room/compose" && mount --bind "$3" "$room/compose" && mkdir -p "$room$1" && mount --bind "$1" "$room$1" || return
    for part in .git .slipway; do
        if [ -d "$part" ]; then mount -t tmpfs -o size=4m tmpfs "$room$1/$part" || return; fi
    done
    : >"$room/empty"
    printf "%s\n" "$4" | while IFS= read -r part; do
        case $part in "$1"/*) ;; *) continue ;; esac
        if [ -L "$part" ]; then
            continue
        elif [ -d "$part" ]; then
            mount -t tmpfs -o size=1k tmpfs "$room$part" || exit
        elif [ -e "$part" ]; then
            mount --bind "$room/empty" "$room$part" || exit
        fi
    done || return
    if [ "$2" != .env ]; then
        cat <&8 >"$room$1/.slipway/variables" || return
        if [ -f .env ]; then mount --bind "$room$1/.slipway/variables" "$room$1/.env"; fi
    fi
}
if ! furnish "$@"; then
    echo "slipway: the project files can not be read apart from those of the server" >&2
    exit 1
fi
shift 4
exec 8<&-
exec chroot "$room" /compose "$@"
'

# resolve: what compose makes of the project's files, once, in $model. It's what is judged, and what is started: whatever
# becomes of the files meanwhile.
resolve() {
    [ -n "${model:-}" ] || model=$(files_view config --format json)
}

# project_compose ARGUMENTS: compose with that model.
project_compose() {
    resolve || return 1
    printf '%s' "$model" | compose --project-directory "$dir/infra" -f - "$@"
}

# compose ARGUMENTS: with the variables of $env_file and no others. Those of the server's own environment would beat
# them: only what docker itself works with stays.
compose() {
    others=$(env | sed -n -E '/^(PATH|HOME|LC_ALL|TMPDIR|(DOCKER|XDG)_[A-Z_]+|[A-Za-z]+_(proxy|PROXY))=/d
        s/^([A-Za-z_][A-Za-z0-9_]*)=.*/-u \1/p')
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    env $others docker compose --project-name "$slug" --env-file "$values" "$@"
}
