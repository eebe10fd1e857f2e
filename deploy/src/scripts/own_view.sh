# After project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh, git.sh. What compose makes of the project's
# own files.

# Compose quotes values of the .env that it complains of. Which of them are secrets is known once all of this was told,
# so that its words are told too, rather than printed.
own_view() { (
    # For this subshell only: the project's own files without ours.
    # shellcheck disable=SC2030
    override=/nonexistent reading=$1
    shift
    files_view --profile '*' config "$@"
); }
refused() {
    complaint=$(own_view "$@" 2>&1 >/dev/null | head -c 65536)
    # What is ended for the time that it takes says nothing.
    tell complaint "$(printf '%s' "${complaint:-Killed}" | base64 -w 0)"
    exit 4
}

# see_variables: sets $variables to those that the compose files name, and whether they can do without. Without the values,
# compose takes the colon in ${DATA:-./data}:/data:ro for one that divides, and no variable for a limit: such files it reads as
# a text. Sets $project to what compose makes of the files with the values that are here, if anything: where a deployment
# brings others, it asks again.
see_variables() {
    project=
    if [ -f .env ] && [ ! -L infra/.env.prod ] && seen=$(own_view both 2>/dev/null); then
        # Only the model's end isn't indented. A shell would take minutes to find it in a long one.
        case $seen in
        yes*)
            project=$(printf '%s\n' "$seen" | sed -n '2,/^}$/p')
            variables=$(printf '%s\n' "$seen" | sed '1,/^}$/d')
            ;;
        *) variables=${seen#*"$line_end"} ;;
        esac
        return
    fi
    variables=$(own_view '' --variables 2>/dev/null) || variables=$(own_view text --variables 2>/dev/null) || refused '' --variables
    if [ -f .env ] && [ ! -L infra/.env.prod ]; then project=$(own_view marked --format json 2>/dev/null) || project=; fi
}
line_end='
'

# tell_variables: after see_variables.
tell_variables() {
    printf '%s\n' "$variables" | while read -r name required _; do
        case $required in true | false) tell variable "$name $required" ;; esac
    done
}

# tell_own MODEL: what compose makes of the project's own files; git's names for those that it mounts, and where it would find
# data of a database, after list_volumes.
list_volumes() { all_volumes=$(docker volume ls -q 2>/dev/null) || :; }
has_volume() { case "$line_end$all_volumes$line_end" in *"$line_end$1$line_end"*) ;; *) return 1 ;; esac; }
tell_own() {
    tell project "$(printf '%s' "$1" | base64 -w 0)"
    paths=$(printf '%s\n' "$1" | sed -n 's/^ *"\(source\|file\)": "\(.*\)",\{0,1\}$/\2/p' | sort -u | head -n 200)
    tell_mounted "$paths"
    printf '%s\n' "$paths" | while IFS= read -r path; do
        [ -d "$path" ] && [ ! -L "$path" ] || continue
        for file in "$path"/PG_VERSION "$path"/*/PG_VERSION "$path"/*/docker/PG_VERSION; do
            if [ -e "$file" ]; then
                tell filled "$path"
                break
            fi
        done
    done
    printf '%s\n' "$1" | sed -n '/^  "volumes": {$/,/^  }/s/^      "name": "\(.*\)",\{0,1\}$/\1/p' | while IFS= read -r name; do
        if has_volume "$name"; then tell volume "$name"; fi
    done
}

# tell_mounted PATHS: git's names for those that it has, other ones for what had to be written anew.
tell_mounted() {
    case "$line_end$1" in *"$line_end$dir/"*) ;; *) return 0 ;; esac
    objects=$(printf '%s\n' "$1" | while IFS= read -r path; do
        case $path in "$dir"/*) printf 'HEAD:%s\n' "${path#"$dir"/}" ;; esac
    done | repo_git cat-file --batch-check='%(objectname)' 2>/dev/null) || return 0
    rewritten=
    if [ -f .slipway/rewritten ]; then rewritten=$(cat .slipway/rewritten); fi
    printf '%s\n' "$1" | while IFS= read -r path; do
        case $path in "$dir"/*) ;; *) continue ;; esac
        object=${objects%%"$line_end"*}
        objects=${objects#*"$line_end"}
        case $object in *[!0-9a-f]* | '') continue ;; esac
        rest=$rewritten
        while [ -n "$rest" ]; do
            line=${rest%%"$line_end"*}
            case ${line#* } in . | "${path#"$dir"/}" | "${path#"$dir"/}"/*) object=$object.${line%% *} ;; esac
            case $rest in *"$line_end"*) rest=${rest#*"$line_end"} ;; *) rest= ;; esac
        done
        tell mounted "$object $path"
    done
}
