# Parameters: request? ports comment fence? owner?; after project_files.sh, front_door.sh, as_left.sh. Whether all is as
# the last deployment left it, where that asked for the same.

# prove: tells how it is and how it was left, with the facts of a server that preflight tells; false where nothing can be
# proven this way.
prove() {
    [ -n "${request:-}" ] && [ -f "$left" ] && [ -O / ] || return 1
    read -r asked <"$left" || return 1
    [ "$asked" = "$request" ] && enter_unless_busy || return 1
    # A release that is unproven, one that somebody has stopped, or a move that nobody has ended.
    for file in served stopped moving; do
        if [ -e ".slipway/$file" ]; then return 1; fi
    done
    # What CI's job goes by.
    [ -f .slipway/judged ] || return 1
    list_containers || return 1
    inspect_own "$left_container"
    now=$(as_left)
    tell_fitness && tell_touched || return 1
    while IFS= read -r line; do tell now "$line"; done <<END
$now
END
    {
        read -r asked
        read -r report
        while IFS= read -r line; do
            case $line in 'tracked '*) tell_tracked ${line#tracked } ;; *) tell was "$line" ;; esac
        done
    } <"$left"
    tell report "$report"
}

# enter_unless_busy: as `enter`, but that it waits for nobody, ends nobody, and leaves git's files alone.
enter_unless_busy() {
    cd "$dir" || return 1
    for own in .slipway .slipway/lock .slipway/fence .slipway/holder infra; do
        if [ -L "$own" ]; then return 1; fi
    done
    (: >>.slipway/lock) 2>/dev/null || return 1
    exec 9>>.slipway/lock
    flock -n 9 || return 1
    find_fence || return 1
    registered=
    if [ -f "$kept/owner" ]; then read -r registered <"$kept/owner" || :; fi
    [ "${fence:-0}" -ge "${newest:-0}" ] && [ "$registered" = "${owner:-nobody}" ] && note_holder "$fence" || return 1
    # In its place: a number that only grows is whole at any moment.
    if [ "$fence" != "$newest" ]; then printf '%s\n' "$fence" 1<>.slipway/fence || return 1; fi
}

# tell_emulated FORMATS: which other processors' programs the kernel has QEMU run, by QEMU's names.
tell_emulated() {
    emulated=
    for file in "$1"/qemu-*; do
        if [ -r "$file" ] && read -r line <"$file" && [ "$line" = enabled ]; then emulated="$emulated ${file##*/qemu-}"; fi
    done
    tell emulates "${emulated# }"
}

# tell_system: what kind of server it is, and the memory that is left.
tell_system() {
    if [ ! -r /proc/sys/kernel/ostype ]; then
        tell system "$(uname -s) $(uname -m)"
        return
    fi
    read -r line </proc/sys/kernel/ostype
    if [ -r /proc/sys/kernel/arch ]; then read -r arch </proc/sys/kernel/arch; else arch=$(uname -m); fi
    tell system "$line $arch"
    tell_emulated /proc/sys/fs/binfmt_misc
    while read -r line || [ -n "$line" ]; do
        case $line in
        PRETTY_NAME=*)
            line=${line#PRETTY_NAME=}
            line=${line#\"}
            tell os "${line%\"}"
            ;;
        esac
    done </etc/os-release || :
    while read -r key line _; do
        if [ "$key" = MemAvailable: ]; then tell memory_kb "$line"; fi
    done </proc/meminfo
}

# tell_room PLACES: how much room is left in them. Btrfs for one has no inodes to count, and says 0 of 0.
tell_room() {
    room=$(stat -f -c '%a %S %c %d' "$@") || return 1
    while read -r blocks size all inodes; do
        tell disk_kb $((blocks * size / 1024))
        if [ "$all" = 0 ]; then inodes=-; fi
        tell inodes "$inodes"
    done <<END
$room
END
}

# tell_fitness: what preflight tells of the server, but for what the worker knows from then.
tell_fitness() {
    tell_system
    read -r line _ </proc/uptime
    seconds=${line%%.*}
    data=
    while read -r key line; do
        case $key in
        booted) tell clock $((line + seconds)) ;;
        data) data=$line ;;
        esac
    done <<END
$now
END
    tell user root
    tell root yes
    tell writable yes
    tell_room "$root" ${data:+"$data"} || return 1
    others=
    while read -r key line _ project; do
        case $line in running | restarting | paused) continue ;; esac
        case $key in '' | *[!0-9a-f]*) continue ;; esac
        if [ "$project" != "$slug" ]; then others="$others $key"; fi
    done <<END
$listed
END
    if [ -n "$others" ]; then tell_holders "$(docker inspect --format "$bindings" $others 2>/dev/null || :)"; fi
    # What the project itself publishes, nobody else can have. Any other port somebody may have taken.
    for port in $ports; do
        case $now in
        *"
published "*" $port
"*) ;;
        *) if is_heard "$port"; then return 1; fi ;;
        esac
    done
}

# tell_touched: tells whether a file has changed since its stage has left it, by the kernel's own time of the change, which
# nobody can set back. The clock itself is compared by the worker. Where containers may write isn't looked at this way.
tell_touched() {
    find_writable || return 1
    set -- -path ./.slipway
    for place in $places; do set -- "$@" -o -path "./$place"; done
    set -- \( "$@" \) -prune -o \
        \( -path .slipway/ci-deploy -o -path "$login_file" -o -path '/etc/ssh/sshd_config*' \) \
        \( ! -cnewer .slipway/at_key -o -printf 'key\n' \) -o \
        \( -path '/etc/ufw/*' -o -path /etc/default/ufw \) \( ! -cnewer .slipway/at_firewall -o -printf 'rules\n' \) -o \
        \( -path . -o -path ./infra -o -path ./.env -o -path ./infra/.env -o -path ./infra/.env.prod \
        -o -path "./$override" -o -path .slipway/sealed \) \
        \( ! -cnewer .slipway/at_env -o -printf 'release\n' -quit \) -o \
        -cnewer .slipway/at_clone -printf 'release\n' -quit
    for place in "${HOME:-/root}/.docker" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
        if [ -x "$place/cli-plugins/docker-compose" ]; then
            set -- "$place/cli-plugins/docker-compose" "$@"
            place=found
            break
        fi
    done
    [ "$place" = found ] || return 1
    for place in .slipway/ci-deploy "$login_file" /etc/docker /etc/ssh/sshd_config /etc/ssh/sshd_config.d /etc/default/ufw /etc/ufw/*; do
        # What ufw writes itself is compared, and profiles of programs open nothing.
        case $place in */ufw.conf | */user.rules | */user6.rules | */applications.d) continue ;; esac
        if [ -e "$place" ]; then set -- "$place" "$@"; fi
    done
    touched=$(find -H . .slipway/commit .slipway/sealed "$(command -v docker)" "$(command -v git)" "$@") || return 1
    while read -r line; do
        if [ -n "$line" ]; then tell touched "$line"; fi
    done <<END
$touched
END
}

# tell_tracked PLACES: after tell_touched. Tells whether files of the commit are others there, as stage clone would find it.
tell_tracked() {
    case $touched in *release*) return 0 ;; esac
    changed=$(repo_git --no-optional-locks status --porcelain -uno -- "$@") || changed=unknown
    if [ -n "$changed" ]; then tell touched release; fi
}

# tell_holders HELD: tells which containers were started with the project's ports, from lines in the format of $bindings.
bindings="\
{{\$it := .}}{{range .HostConfig.PortBindings}}{{range .}}\
{{.HostPort}} {{\$it.Name}} {{\$it.State.Status}} \
{{index \$it.Config.Labels \"com.docker.compose.project\"}}{{\"\\n\"}}\
{{end}}{{end}}"
tell_holders() {
    while read -r held_port name state project; do
        [ -n "$held_port" ] || continue
        case " $ports " in *" $held_port "*) tell container "$held_port ${name#/} $state $project" ;; esac
    done <<END
$1
END
}
