# Parameters: slug; after project_files.sh, room.sh, front_door.sh. How compose is called, the same for every script.

# files_view ARGUMENTS: compose over the project's files, with the variables of $env_file and no others. The files may name
# any file of the server, or the network's: compose reads them in the room, without git's and Slipway's part of the
# directory, and with an empty file or directory in the place of each one that $unread has, a path a line. With $simpler, a
# program for sed, it sees what that makes of the compose files. It gets half of the memory, between 2 and 4 GiB, and half a
# minute of a processor: a few lines of YAML can ask for all that there is.
env_file=.env
unread=
simpler=
files_view() {
    if [ -f "$override" ]; then set -- -f "$dir/$override" "$@"; fi
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    case $values in
    .env) set -- --env-file "$dir/.env" -f "$dir/$base" -f "$dir/$prod" "$@" ;;
    *) set -- --env-file "$dir/.slipway/variables" -f "$dir/$base" -f "$dir/$prod" "$@" ;;
    esac
    in_room "$compose_room" "$values" "$(compose_program)" "$unread" "$simpler" \
        --project-name "$slug" --project-directory "$dir/infra" "$@"
}
compose_room='
values=$1 program=$2 unread=$3 simpler=$4
shift 4
furnish() {
    cd "$dir" && exec 8<"$values" && build 16k && : >"$room/compose" && mount --bind "$program" "$room/compose" || return
    for part in .git .slipway; do
        if [ -d "$part" ]; then mount -t tmpfs -o size=4m tmpfs "$room$dir/$part" || return; fi
    done
    : >"$room/empty"
    printf "%s\n" "$unread" | while IFS= read -r part; do
        case $part in "$dir"/*) ;; *) continue ;; esac
        if [ -L "$part" ]; then
            continue
        elif [ -d "$part" ]; then
            mount -t tmpfs -o size=1k tmpfs "$room$part" || exit
        elif [ -e "$part" ]; then
            mount --bind "$room/empty" "$room$part" || exit
        fi
    done || return
    if [ "$values" != .env ]; then
        cat <&8 >"$room$dir/.slipway/variables" || return
        if [ -f .env ]; then mount --bind "$room$dir/.slipway/variables" "$room$dir/.env"; fi || return
    fi
    if [ -n "$simpler" ]; then
        for part in base prod; do
            [ ! -L "infra/compose.$part.yml" ] || continue
            sed "$simpler" "infra/compose.$part.yml" >"$room$dir/.slipway/$part" || return
            mount --bind "$room$dir/.slipway/$part" "$room$dir/infra/compose.$part.yml" || return
        done
    fi
}
bound() {
    most=$(sed -n "s/^MemTotal: *\([0-9]*\) kB/\1/p" /proc/meminfo)
    most=$((most / 2))
    if [ "$most" -lt 2097152 ]; then most=2097152; fi
    if [ "$most" -gt 4194304 ]; then most=4194304; fi
    ulimit -v "$most" && ulimit -t 30
}
furnish || no_room
exec 8<&-
bound || no_room
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
    chroot "$room" /compose "$@"
'

# compose_program: the file behind `docker compose`.
compose_program() {
    for place in "${HOME:-/root}/.docker" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        if [ -x "$place/cli-plugins/docker-compose" ]; then
            echo "$place/cli-plugins/docker-compose"
            return
        fi
    done
    docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Path}}{{end}}{{end}}' 2>/dev/null || :
}

# resolve: what compose makes of the project's files, once, in $model. It's what is judged, and what is started: whatever
# becomes of the files meanwhile.
resolve() {
    [ -n "${model:-}" ] || model=$(files_view config --format json)
}

# project_compose ARGUMENTS: compose with that model.
project_compose() {
    resolve || return 1
    started_model | compose --project-directory "$dir/infra" -f - "$@"
}

# started_model: the model, with the slots of the services behind the front door.
started_model() {
    slot_edits
    printf '%s' "$model" | sed "$edits"
}

# compose ARGUMENTS: with the variables of $env_file and no others. Those of the server's own environment would beat
# them, and a container that names one without a value would get it: only names and places that docker itself works with
# stay, nothing that may hold a credential.
compose() {
    others=$(env | sed -n -E '/^(PATH|HOME|LC_ALL|TMPDIR|XDG_(CONFIG_HOME|RUNTIME_DIR))=/d
        /^DOCKER_(API_VERSION|CERT_PATH|CONFIG|CONTEXT|HOST|TLS|TLS_VERIFY)=/d
        s/^([A-Za-z_][A-Za-z0-9_]*)=.*/-u \1/p')
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    env $others docker compose --project-name "$slug" --env-file "$values" "$@"
}
