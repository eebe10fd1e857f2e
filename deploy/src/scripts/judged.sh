# Parameters: root slug; after project_files.sh, compose_call.sh, containers.sh. What may be started is judged elsewhere, by
# all that compose makes of the files. Here is kept what was judged: a digest of that, and the paths that it mounts. Nothing
# else is started, by whomever: CI's job changes the tags of images alone, and what is put back was judged in its own time.

# model_digest: of the model, but for tags and digests of the images that .env names.
model_digest() { printf '%s' "$model" | sed "$(without_tags)" | sha256sum | cut -c -64; }
without_tags() {
    images "$env_file" | grep -xE '[A-Za-z0-9._/:@-]+' | sort -ru | while read -r image; do
        name=${image%@*}
        case ${name##*/} in *:*) name=${name%:*} ;; esac
        [ "$name" = "$image" ] || printf 's|%s|%s|g\n' "$(printf '%s' "$image" | sed 's/\./\\./g')" "$name"
    done
}

# tell_model: tells what the judgement needs.
tell_model() {
    [ ${#model} -le 1048576 ] || die compose-not-allowed "the compose files amount to more than 1 MiB"
    tell model "$(printf '%s' "$model" | base64 -w 0)"
    tell digest "$(model_digest)"
    for other in "$root/$slug"-*/; do
        if [ -d "$other/.slipway" ]; then tell neighbour "$(basename "$other")"; fi
    done
    containers_of=$(project_ps -aq)
    [ -n "$containers_of" ] || return 0
    docker inspect --format '{{range .Mounts}}{{if .RW}}{{println (json .Source)}}{{end}}{{end}}' $containers_of |
        while IFS= read -r source; do [ -z "$source" ] || tell writable "$source"; done
}

# bad_paths: of the paths on stdin, those that lead elsewhere through a link, or aren't plain files or directories.
bad_paths() {
    place=$(readlink -f "$dir")
    while IFS= read -r path; do
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
    if ! resolve; then
        unjudged="docker compose refuses the files of $dir"
    elif [ "$(head -n 1 .slipway/judged)" != "$(model_digest)" ]; then
        unjudged="what the files of $dir ask for isn't what was deployed last: deploy a commit"
    elif [ -n "$(tail -n +2 .slipway/judged | bad_paths)" ]; then
        unjudged="a path in $dir that is mounted isn't a plain file or directory any more"
    fi
    [ -z "$unjudged" ]
}
require_judged() { is_judged || die compose-not-allowed "$unjudged"; }
