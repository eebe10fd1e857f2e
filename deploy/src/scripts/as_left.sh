# Parameters: slug comment ports fence?; after project_files.sh, front_door.sh. How a deployment leaves the server, in
# lines that begin with what they are about. They are kept in .slipway/left, below what was asked for and what was
# reported, so that the next deployment that asks for the same can prove that all is as it was left. The worker compares.
# A program costs more than all that a shell does by itself: there are three here.

left=$dir/.slipway/left

# list_containers: sets $listed to all containers of the server. One whose tag means another image by now is shown with its
# image's id.
list_containers() {
    listed=$(docker ps -a --no-trunc --format '{{.ID}} {{.State}} {{.Image}} {{.Label "com.docker.compose.project"}}')
}

# inspect_own FORMAT: after list_containers. Sets $inspected to what Docker tells of the project's containers.
inspect_own() {
    while read -r key _ _ project; do
        [ "$project" = "$slug" ] || continue
        case $key in '' | *[!0-9a-f]*) ;; *) set -- "$@" "$key" ;; esac
    done <<END
$listed
END
    inspected=
    [ $# -gt 1 ] || return 0
    inspected=$(docker inspect --format "$@") || inspected="$inspected
gone"
}

# What belongs to no service that stage compose looks at is beside it.
left_container="\
{{\$service := index .Config.Labels \"com.docker.compose.service\"}}\
{{if eq (index .Config.Labels \"com.docker.compose.oneoff\") \"False\"}}container{{else}}beside{{end}} {{\$service}} {{.State.Status}} \
{{if index .State \"Health\"}}{{.State.Health.Status}}{{else}}-{{end}} \
{{.RestartCount}} {{.State.ExitCode}} {{.State.StartedAt}} {{.Config.Image}} {{.HostConfig.RestartPolicy.Name}} \
{{.Id}} {{.Image}}{{range \$name, \$network := .NetworkSettings.Networks}} {{\$network.NetworkID}}{{end}}{{\"\\n\"}}\
{{range \$port, \$bindings := .NetworkSettings.Ports}}{{range \$bindings}}\
published {{\$service}} {{\$port}} {{.HostIp}} {{.HostPort}}{{\"\\n\"}}\
{{end}}{{end}}\
{{range .Mounts}}{{if .RW}}writable {{.Source}}{{\"\\n\"}}{{end}}{{end}}\
data {{.ResolvConfPath}}"

# find_writable: after inspect_own with $left_container at least. Sets $places to where the project's containers may write in its
# directory; false where that can't be left out of a look.
find_writable() {
    places=
    while IFS= read -r value; do
        case $value in
        "writable $dir/"*) value=${value#"writable $dir/"} ;;
        "writable $dir") return 1 ;;
        *) continue ;;
        esac
        case $value in *[!A-Za-z0-9._/-]*) return 1 ;; esac
        places="$places $value"
    done <<END
$inspected
END
}

# as_left: prints the lines; after list_containers, and inspect_own with $left_container at least.
as_left() {
    read -r value </proc/sys/kernel/random/boot_id
    printf 'boot %s\n' "$value"
    while read -r key value; do
        if [ "$key" = btime ]; then printf 'booted %s\n' "$value"; fi
    done </proc/stat
    # The daemon by its process: another one may be of another version.
    value='' key=''
    if [ -f /run/docker.pid ]; then
        read -r key </run/docker.pid || :
        { read -r value <"/proc/$key/stat"; } 2>/dev/null || :
        set -- ${value##*) }
        if [ $# -ge 20 ]; then
            shift 19
            printf 'daemon %s %s\n' "$key" "$1"
        fi
    fi
    for key in clone env; do
        value=
        if [ -f ".slipway/at_$key" ]; then read -r value <".slipway/at_$key" || :; fi
        printf 'at_%s %s\n' "$key" "$value"
    done
    while read -r key value image project; do
        [ "$project" = "$slug" ] || continue
        case $key in '' | *[!0-9a-f]*) ;; *) printf 'listed %s %s %s\n' "$key" "$value" "$image" ;; esac
    done <<END
$listed
END
    alone=$(left_alone)
    while IFS= read -r value; do
        key=${value#container }
        case $value in 'container '*) case " $alone " in *" ${key%% *} "*) value="beside $key" ;; esac ;; esac
        case $value in 'container '* | 'beside '* | 'published '* | 'writable '* | 'data '* | gone) printf '%s\n' "$value" ;; esac
    done <<END
$inspected
END
    read_doors
    with_domains=
    while read -r key value image _ its_domains; do
        [ -n "$key" ] || continue
        with_domains=$with_domains$its_domains
        serving "$value"
        if [ -n "$served_by" ]; then
            is_heard "$value" || printf 'door %s deaf\n' "$value"
            for its_public in $value ${its_domains:+80 443}; do
                printf 'published %s %s/tcp 0.0.0.0 %s\n' "$key" "$image" "$its_public"
            done
            printf 'door %s %s %s %s\n' "$value" "$served_by" "$slot_a" "$slot_b"
        fi
    done <<END
$doors
END
    left_access
}

# is_heard PORT: whether a program listens there, by one look for all ports.
is_heard() {
    [ -n "${listening:-}" ] || listening=$(ss -Hltn || :)
    case $listening in *":$1 "*) ;; *) return 1 ;; esac
}

# left_access: prints what of the firewall's and sshd's files is about this project.
left_access() {
    if command -v ufw >/dev/null 2>&1; then printf 'ufw present\n'; else printf 'ufw absent\n'; fi
    for key in "$dir/.slipway/ci-deploy" "$login_file"; do
        if [ -e "$key" ]; then printf 'access %s\n' "$key"; fi
    done
    wanted="^ENABLED=|comment=$comment( |\$)| slipway:$slug\$"
    # The door's own rule: slipway:FRONT-DOOR.
    if [ -n "$with_domains" ]; then wanted="$wanted|comment=736c69707761793a46524f4e542d444f4f52( |\$)"; fi
    for key in $ports; do wanted="$wanted|^### tuple ### [^ ]+ [^ ]+ $key "; done
    # The home of the SSH user, whose name is the system's, unless sshd looks elsewhere.
    case ${SUDO_USER:-root} in -* | *[!A-Za-z0-9._-]*) return 0 ;; esac
    keys=
    eval "keys=~${SUDO_USER:-root}/.ssh/authorized_keys"
    if [ -f .slipway/keys ]; then read -r keys <.slipway/keys; fi
    found=$(grep -HsE "$wanted" /etc/ufw/ufw.conf /etc/ufw/user.rules /etc/ufw/user6.rules "$keys" || :)
    while IFS= read -r value; do
        case $value in
        "$keys:"*) printf 'access %s\n' "$value" ;;
        ?*) printf 'rule %s\n' "$value" ;;
        esac
    done <<END
$found
END
}
