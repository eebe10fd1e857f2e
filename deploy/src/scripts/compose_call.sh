# Parameters: slug; after project_files.sh. How compose is called, the same for every script.

# project_compose ARGUMENTS: with the project's compose files; run in $dir.
project_compose() {
    if [ -f "$override" ]; then set -- -f "$override" "$@"; fi
    compose -f "$base" -f "$prod" "$@"
}

# compose ARGUMENTS: with the variables of $env_file and no others. Those of the server's own environment would beat
# them: only what docker itself works with stays.
env_file=.env
compose() {
    others=$(env | sed -n -E '/^(PATH|HOME|LC_ALL|TMPDIR|(DOCKER|XDG)_[A-Z_]+|[A-Za-z]+_(proxy|PROXY))=/d
        s/^([A-Za-z_][A-Za-z0-9_]*)=.*/-u \1/p')
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    env $others docker compose --project-name "$slug" --env-file "$values" "$@"
}

# tell_used_images: the images that the active services would run; fails where the files aren't valid.
tell_used_images() {
    used=$(project_compose config --images 2>/dev/null) || return 1
    printf '%s\n' "$used" | sort -u | while read -r image; do tell uses "$image"; done
}
