# Parameters: slug; after project_files.sh, containers.sh. While a project has two containers of a service, the others
# find by its name the one that they should.

names_format='{{$it := .}}hosts {{.Id}} {{.HostsPath}}{{range $name, $net := .NetworkSettings.Networks}} {{$name}}{{end}}
{{$own := index .Config.Labels "com.docker.compose.service"}}{{range $name, $net := .NetworkSettings.Networks}}{{if $net.IPAddress}}name {{$it.Id}} {{$name}} {{$net.IPAddress}} {{$own}}
{{range $net.Aliases}}{{if ne . $own}}name {{$it.Id}} {{$name}} {{$net.IPAddress}} {{.}}
{{end}}{{end}}{{end}}{{end}}'

# pin IDS: by their names, and those that compose files give them besides, the project's other containers find these and no others of the same service until unpin: both would
# be found. A container's file of hosts comes before Docker's names, and is made anew whenever it starts.
pin() {
    [ $# -gt 0 ] && [ -O / ] || return 0
    earlier=${pinned:-}
    pinned=
    served=" $* " services=' ' callers=
    while read -r its_id its_service _; do
        case $served in *" $its_id "*) services="$services$its_service " ;; esac
    done <<END
$present
END
    while read -r its_id its_service once its_state _; do
        case "$once $its_state$services" in *" $its_service "*) continue ;; 'False running'*) callers="$callers$its_id " ;; esac
    done <<END
$present
END
    if [ -z "$callers" ]; then
        pinned=$earlier
        return 0
    fi
    names=
    while read -r kind its_id said; do
        case "$kind$served" in
        name*" $its_id "*) names="$names$said
" ;;
        hosts*" $its_id "*) ;;
        hosts*) pinned="$pinned$said
" ;;
        esac
    done <<END
$(docker inspect --format "$names_format" "$@" $callers 2>/dev/null)
END
    # Where these have no address, lines of earlier ones mustn't stay.
    if [ -z "$pinned" ] || [ -z "$names$earlier" ]; then
        pinned=$earlier
        return 0
    fi
    pinned=${pinned%
}
    printf '%s\n' "$pinned" | put .slipway/pinned 600
    printf '%s\n' "$pinned" | while read -r file networks; do
        [ -f "$file" ] || continue
        lines=$(printf '%s\n' "$names" | while read -r network its_address name; do
            case " $networks " in *" $network "*) printf '%s\t%s # slipway\n' "$its_address" "$name" ;; esac
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
    hosts='' size=-1
    {
        while IFS= read -r line || [ -n "$line" ]; do
            size=$((size + ${#line} + 1))
            line=${line%"${line##*[! ]}"}
            case $line in *' # slipway') ;; *) hosts="$hosts$line
" ;; esac
        done <"$1"
    } 2>/dev/null || return 0
    hosts=$hosts${2:-}
    printf "%-${size}s\n" "${hosts%
}" 1<>"$1"
}
