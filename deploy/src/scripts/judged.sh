# Parameters: root slug; after project_files.sh, compose_call.sh, containers.sh. What may be started is judged elsewhere, by
# all that compose makes of the files. Here is kept what was judged: its digest, the variables, and the paths that it
# mounts. Nothing else is started, by whomever, but with other variables: those are root's, and CI's job changes tags alone.

# model_digest FILE: of what compose makes of the files with the variables in FILE, in the place of those in .env, and none in
# .env.prod. Both are written by root alone: what they hold now is for the model that is started.
model_digest() (
    env_file=$1 hidden="$hidden
$dir/infra/.env.prod"
    seen=$(files_view config --format json) || exit
    printf '%s' "$seen" | sha256sum | cut -c -64
)

# shapes: the variables of .env with their shapes: what is secret, or holds something that is, keeps neither letters nor
# digits. A change of the compose files shows with these as well, and they may be kept.
shapes() {
    [ -f .slipway/sealed ] || : >.slipway/sealed
    awk '
        FILENAME == ".slipway/sealed" { sealed[$0] = 1; next }
        /^#/ || !/=/ { next }
        {
            names[++count] = substr($0, 1, index($0, "=") - 1)
            values[count] = substr($0, index($0, "=") + 1)
            if (!(names[count] in sealed) && names[count] !~ /PASS|SECRET|TOKEN|KEY|AUTH|CREDENTIAL|PRIVATE|DSN|DATABASE_URL/) next
            secret[count] = 1
            value = values[count]
            gsub(/^"|"$/, "", value)
            if (length(value) >= 6) known[++many] = value
        }
        END {
            for (i = 1; i <= count; i++) {
                for (j = 1; j <= many; j++) if (index(values[i], known[j])) secret[i] = 1
                if (secret[i]) { gsub(/[A-Za-z]/, "x", values[i]); gsub(/[0-9]/, "1", values[i]) }
                print names[i] "=" values[i]
            }
        }' .slipway/sealed .env
}

# writable_paths: where containers of the project's that are there may write, in its directory.
writable_paths() {
    ids=$(project_ps -aq)
    [ -n "$ids" ] || return 0
    docker inspect --format '{{range .Mounts}}{{if .RW}}{{println .Source}}{{end}}{{end}}' $ids | grep -F "$dir/" | sort -u || :
}

# tell_model: tells what the judgement needs.
tell_model() {
    [ ${#model} -le 1048576 ] || die compose-not-allowed "the compose files amount to more than 1 MiB"
    tell model "$(printf '%s' "$model" | base64 -w 0)"
    shapes >.slipway/shapes
    tell digest "$(model_digest .slipway/shapes)"
    rm -f .slipway/shapes
    for other in "$root/$slug"-*/; do
        if [ -d "$other/.slipway" ]; then tell neighbour "$(basename "$other")"; fi
    done
    writable_paths | while IFS= read -r path; do tell writable "$path"; done
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
    # What a container could change between two looks isn't read at all.
    hidden=$(writable_paths)
    if ! resolve; then
        unjudged="docker compose refuses the files of $dir"
    elif ! digest=$(model_digest .slipway/judged_env) || [ "$(head -n 1 .slipway/judged)" != "$digest" ]; then
        unjudged="what the files of $dir ask for isn't what was deployed last: deploy a commit"
    elif [ -n "$(tail -n +2 .slipway/judged | bad_paths)" ]; then
        unjudged="a path in $dir that is mounted isn't a plain file or directory any more"
    fi
    [ -z "$unjudged" ]
}
require_judged() { is_judged || die compose-not-allowed "$unjudged"; }
