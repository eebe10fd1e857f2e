# Parameters: slug; after project_files.sh, containers.sh. While a project has two containers of a service, the others
# find by its name the one that they should.

# pin IDS: by their names, and those that compose files give them besides, the project's other containers find these and no others of the same service until unpin: both would
# be found. A container's file of hosts comes before Docker's names, and is made anew whenever it starts.
pin() {
    pinned=
    set -- "$@"
    [ $# -gt 0 ] && [ -O / ] || return 0
    names=$(docker inspect --format '{{$it := .}}{{$own := index $it.Config.Labels "com.docker.compose.service"}}{{range $name, $net := .NetworkSettings.Networks}}{{if $net.IPAddress}}{{$name}} {{$net.IPAddress}} {{$own}}{{"\n"}}{{range $net.Aliases}}{{if ne . $own}}{{$name}} {{$net.IPAddress}} {{.}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}' "$@") || return 0
    services=" $(printf '%s\n' "$names" | cut -d ' ' -f 3 | tr '\n' ' ')"
    callers=
    while read -r its_id its_service once its_state _; do
        case "$once $its_state$services" in *" $its_service "*) continue ;; 'False running'*) callers="$callers$its_id " ;; esac
    done <<END
$present
END
    [ -n "$callers" ] || return 0
    pinned=$(docker inspect --format '{{.HostsPath}}{{range $name, $net := .NetworkSettings.Networks}} {{$name}}{{end}}' $callers 2>/dev/null) || :
    printf '%s\n' "$pinned" | put .slipway/pinned 600
    printf '%s\n' "$pinned" | while read -r file networks; do
        [ -f "$file" ] || continue
        lines=$(printf '%s\n' "$names" | while read -r network address name; do
            case " $networks " in *" $network "*) printf '%s\t%s # slipway\n' "$address" "$name" ;; esac
        done)
        write_hosts "$file" "$lines"
    done
}
unpin() {
    [ -n "${pinned:-}" ] || return 0
    printf '%s\n' "$pinned" | while read -r file _; do
        if [ -f "$file" ]; then write_hosts "$file" ''; fi
    done
    pinned=
    rm -f .slipway/pinned
}

# write_hosts FILE LINES: the file itself, which is mounted: one in its place wouldn't be seen. In one write and never shorter,
# since somebody may be reading.
write_hosts() {
    hosts=$(grep -v ' # slipway *$' "$1" || :)
    hosts=$(printf '%s\n' "$hosts" ${2:+"$2"})
    size=$(stat -c %s "$1") || return 0
    printf "%-${size}s\n" "$hosts" 1<>"$1"
}
