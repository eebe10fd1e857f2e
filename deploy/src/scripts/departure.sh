# Parameters: step bots copied; after project_files.sh, room.sh, git.sh, require_project.sh, containers.sh, lock.sh. What a project has
# on the server that a move takes it away from, and where the move stands: since when services don't run, and how many bytes
# were copied. As long as that is noted, CI's job waits.

# named_volumes: the project's volumes that somebody has named. One without a name is its container's, and isn't copied.
named_volumes() {
    docker volume ls -q --filter "label=com.docker.compose.project=$slug" | grep -vxE '[0-9a-f]{64}' || [ $? -eq 1 ]
}

# tell_other_data: what else of the project is data: files in its directory that its containers write and git doesn't know,
# and what is in volumes without a name.
tell_other_data() {
    ids=$(project_ps -aq)
    [ -n "$ids" ] || return 0
    docker inspect --format '{{range .Mounts}}{{.Type}}	{{.RW}}	{{index $.Config.Labels "com.docker.compose.service"}}	{{or .Name "-"}}	{{.Destination}}	{{.Source}}{{"\n"}}{{end}}' $ids |
        sort -u | while IFS='	' read -r type writes service name at source; do
            case $type:$writes:$name:$source in
            bind:true:-:"$dir") tell_unknown_to_git . ;;
            bind:true:-:"$dir"/*) tell_unknown_to_git "${source#"$dir"/}" ;;
            volume:true:*)
                case $name in *[!0-9a-f]*) continue ;; esac
                [ -z "$(find "$source" -mindepth 1 -print -quit)" ] || tell unnamed "$service:$at"
                ;;
            esac
        done
}
tell_unknown_to_git() {
    # But what Slipway has put there.
    found=$(
        repo_git --literal-pathspecs status --porcelain --ignored --untracked-files=all -- "$1" | cut -c 4- |
            grep -vxE '\.env|infra/(\.env|\.env\.prod|compose\.slipway\.yml)|\.slipway/.*' | head -n 1
    )
    case $found:$1 in :*) ;; *:.) tell path "$found" ;; *) tell path "$1" ;; esac
}

enter
stands='0 0'
if [ -f .slipway/moving ]; then read -r stands <.slipway/moving || :; fi
since=${stands% *}
now=$(date +%s%3N)
case $step in
look)
    printf '%s\n' "$stands" | put .slipway/moving 600
    volumes=$(named_volumes)
    size=0
    for volume in $volumes; do
        tell volume "$volume"
        place=$(docker volume inspect --format '{{.Mountpoint}}' "$volume")
        size=$((size + $(du -skx "$place" | cut -f 1)))
    done
    tell size_kb "$size"
    tell_other_data
    if [ -f .slipway/stopped ]; then tell stopped yes; fi
    # What operators wrote and Slipway drew goes with the project: its data can't be read without it.
    if [ -f .env ]; then tell_file env .env; fi
    if [ -f .slipway/sealed ]; then tell_file sealed .slipway/sealed; fi
    ;;
quiet)
    # Before anything stops: a worker that is killed right after it finds since when.
    [ "$since" != 0 ] || since=$now
    printf '%s 0\n' "$since" | put .slipway/moving 600
    see
    running_of $bots
    if [ -n "$bots" ] && [ -n "$ids" ]; then docker stop $ids >&2 || die stop-failed "the bots of $slug couldn't be stopped"; fi
    ;;
copied) printf '%s %s\n' "$since" "$copied" | put .slipway/moving 600 ;;
stay)
    if [ -f .slipway/moving ]; then tell stood "$stands"; fi
    rm -f .slipway/moving
    ;;
esac
tell since "$since"
tell now "$now"
tell copied "${stands#* }"
