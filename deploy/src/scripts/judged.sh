# Parameters: root slug registry?; after project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh, git.sh.
# What may be started is judged elsewhere, by all that compose makes of the files. Here is kept what was judged: in
# .slipway/judged its digest, what it was made by and of, and the paths that it mounts, a line each; in
# .slipway/judged_env the variables. Nothing else is started, by whomever, but with other variables: those are root's, and
# CI's job changes tags alone.

# model_digest FILE: of what compose makes of the files with the variables in FILE, in the place of those in .env, and none in
# .env.prod. Both are written by root alone: what they hold now is for the model that is started. Where that was made of the
# same, it's the same.
model_digest() (
    if [ -n "${model:-}" ] && [ ! -e infra/.env.prod ] && [ ! -L infra/.env.prod ] && { [ "$1" = .env ] || cmp -s "$1" .env; }; then
        seen=$model
    else
        env_file=$1 unread="$unread
$dir/infra/.env.prod"
        seen=$(files_view config --format json) || exit
    fi
    digest_of "$seen"
)

# digest_of TEXT.
digest_of() {
    its_digest=$(printf '%s' "$1" | sha256sum)
    echo "${its_digest%% *}"
}

# writable_paths: where containers of the project's that are there may write, in its directory.
writable_paths() {
    case ${present+seen} in
    seen) mounting=$present ;;
    *) mounting=$(project_ps -a --format '{{.ID}} {{.Mounts}}') || : ;;
    esac
    set --
    while read -r its_id its_mounts; do
        case $its_mounts in *"$dir/"*) set -- "$@" "$its_id" ;; esac
    done <<END
$mounting
END
    [ $# -gt 0 ] || return 0
    docker inspect --format '{{range .Mounts}}{{if .RW}}{{println .Source}}{{end}}{{end}}' "$@" | grep -F "$dir/" | sort -u || :
}

# tell_model: tells what the judgement needs of the model, and tell_others of what else there is.
tell_model() {
    [ ${#model} -le 1048576 ] || die compose-not-allowed "the compose files amount to more than 1 MiB"
    tell model "$(printf '%s' "$model" | base64 -w 0)"
    tell digest "$(model_digest .env)"
}
tell_others() {
    for other in "$root/$slug"-*/; do
        other=${other%/}
        if [ -d "$other/.slipway" ]; then tell neighbour "${other##*/}"; fi
    done
    # One question for the names of all and the mounts of the project's own.
    present=$(docker ps -a --no-trunc --format "{{.ID}} {{if eq (.Label \"com.docker.compose.project\") \"$slug\"}}own{{else}}other{{end}} {{.Names}} {{.Mounts}}")
    its_own=
    while read -r its_id whose name mounts; do
        case "$whose $name" in
        "other $slug"[_.-]*) tell taken "$name" ;;
        'own '*) its_own="$its_own$its_id $mounts
" ;;
        esac
    done <<END
$present
END
    present=$its_own
    tell_routes
    writable_paths | while IFS= read -r path; do tell writable "$path"; done
}

# tell_routes: which addresses the server reaches by its networks, but the project's own, and, wherever they are, those of
# its name servers, of the registry, and of whom sshd talks to, the worker among them: a network of the project's with the
# same ones would cut them off.
tell_routes() {
    set -- $(docker network ls --format 'br-{{.ID}}' --filter "label=com.docker.compose.project=$slug")
    bridges=" $* "
    told=' '
    while read -r place device; do
        case $place in '' | *[!0-9a-f.:/]*) continue ;; esac
        case " $device" in *' dev '*) tell_route "$place" "$device" ;; esac
    done <<END
$( (ip route && ip -6 route) 2>/dev/null || :)
END
    for file in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
        [ -f "$file" ] || continue
        while read -r key place || [ -n "$key" ]; do
            if [ "$key" = nameserver ]; then tell_route "${place%%[!0-9a-f.:]*}" ''; fi
        done <"$file"
    done
    while read -r place _; do tell_route "$place" ''; done <<END
$([ -z "${registry:-}" ] || getent ahosts "${registry%%:*}" 2>/dev/null || :)
END
    # Whom sshd talks to.
    while read -r _ _ _ place device; do
        case $device in *'"sshd'*) ;; *) continue ;; esac
        place=${place%:*} place=${place#"["} place=${place%"]"} place=${place%%%*}
        case $place in ::ffff:*[!0-9.]*) ;; ::ffff:*) place=${place#::ffff:} ;; esac
        case $told in *" $place "*) continue ;; esac
        tell_route "$place" "$(ip route get "$place" 2>/dev/null || :)"
    done <<END
$(ss -Htnp state established 2>/dev/null | grep '"sshd' || :)
END
}

# tell_route PLACE LINE: unless LINE, one of ip's, says that it's reached by the project's own networks.
tell_route() {
    its_device=-
    case " $2" in *' dev '*) its_device=" $2" its_device=${its_device##* dev } its_device=${its_device%% *} ;; esac
    case $bridges in *" $its_device "*) return 0 ;; esac
    case $told in *" $1 "*) return 0 ;; esac
    told="$told$1 "
    [ -z "$1" ] || tell route "$1"
}

# bad_paths: of the paths on stdin, those that lead elsewhere through a link, or aren't plain files or directories.
bad_paths() {
    place=
    while IFS= read -r path; do
        : "${place:=$(readlink -f "$dir")}"
        real=$(realpath -m -- "$path")
        if [ "$real" != "$place${path#"$dir"}" ]; then
            printf 'linked %s\n' "$path"
        elif [ -e "$path" ] && [ ! -f "$path" ] && [ ! -d "$path" ]; then
            printf 'special %s\n' "$path"
        fi
    done
}

# is_judged: whether the files are what was judged, and no path has become a link; else $unjudged says why not. Without a
# record they were deployed before there were any, and may serve on.
is_judged() {
    unjudged=
    [ -f .slipway/judged ] || return 0
    read -r was version commit files <.slipway/judged || :
    # What a container could change between two looks isn't read at all.
    unread=$(writable_paths)
    if ! resolve; then
        unjudged="docker compose refuses the files of $dir"
    elif ! digest=$(model_digest .slipway/judged_env) || { [ "$digest" != "$was" ] && ! same_files; }; then
        unjudged="what the files of $dir ask for isn't what was deployed last: deploy a commit"
    elif [ -n "$({ read -r _ && bad_paths; } <.slipway/judged)" ]; then
        unjudged="a path in $dir that is mounted isn't a plain file or directory any more"
    fi
    [ -z "$unjudged" ]
}

# compose_version: what tells one compose from another, without starting it.
compose_version() { stat -Lc '%s.%Y' "$(compose_program)" 2>/dev/null || echo unknown; }
override_digest() {
    its_digest=$(sha256sum <"$override")
    echo "${its_digest%% *}"
}

# same_files: whether another compose than that of then makes another model of the same files: all that is there is the
# commit's, but for what it doesn't read, or root's.
same_files() {
    [ "$(compose_version)" != "$version" ] && [ "$(repo_git rev-parse HEAD)" = "$commit" ] || return 1
    [ "$(override_digest)" = "$files" ] || return 1
    set -- .
    while IFS= read -r path; do
        if [ -n "$path" ]; then set -- "$@" ":(top,exclude,literal)${path#"$dir"/}"; fi
    done <<END
$unread
END
    repo_git update-index -q --refresh >/dev/null 2>&1 || :
    repo_git diff-index --quiet HEAD -- "$@"
}

require_judged() { is_judged || die compose-not-allowed "$unjudged"; }

# stop_running: stops what runs, in the order of their dependencies where the files tell it that were judged: others may
# name commands that compose runs before it stops something.
stop_running() {
    if is_judged; then project_compose stop >&2 || :; fi
    left=$(any_running)
    if [ -n "$left" ]; then docker stop $left >&2 || :; fi
}
