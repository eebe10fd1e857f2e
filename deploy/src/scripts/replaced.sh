# Parameters: patience?; after project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh, git.sh,
# service_report.sh, stability_gate.sh, sockets.sh, rehearse.sh, bots_first.sh, door_slots.sh, door_site.sh, hosts.sh,
# one_shots.sh, next_release.sh, switch.sh. How each service was replaced, and for how long nobody answered where one was stopped
# first.

# watch_gaps: after choose_next. Begins to ask those web services that are stopped before their new release is started.
watch_gaps() {
    watched='' watchers=''
    while read -r web its_public _ its_way _; do
        case $its_way in stop-first*) ;; *) continue ;; esac
        running_of "$web"
        case $ids in '' | *' '?*) continue ;; esac
        if is_current "$web" "${ids% }"; then continue; fi
        watched="$watched$web "
        watch_gap "$its_public" >".slipway/gap.$web" 2>/dev/null 9>&- &
        watchers="$watchers$! "
    done <<END
$doors
END
}

# watch_gap PORT: prints for how many milliseconds nobody answered there, once somebody does again.
watch_gap() {
    lost=
    while :; do
        status=$(ask 127.0.0.1 "$1" localhost /)
        look_at_clock
        case $status in
        '' | mute | 502 | 503) lost=${lost:-$now} ;;
        *)
            [ -z "$lost" ] || break
            ;;
        esac
        sleep 0.1
    done
    echo $(((now - lost) * 10))
}

# gap_of SERVICE: sets $its_gap to what was found out about it, if anything was.
gap_of() {
    its_gap=
    case " ${watched:-}" in
    *" $1 "*) read -r its_gap <".slipway/gap.$1" || : ;;
    esac
}
end_watching() {
    [ -n "${watchers:-}" ] || return 0
    in_time 3
    for web in $watched; do
        while [ ! -s ".slipway/gap.$web" ] && [ "$now" -lt "$moment" ]; do
            sleep 0.1
            look_at_clock
        done
    done
    kill $watchers 2>/dev/null || :
    watchers=
}

# tell_replaced BEFORE: after switch and see. Tells of each service how it was replaced, where it was one before, from
# what was seen then.
tell_replaced() {
    end_watching
    while read -r id web once _; do
        [ "$once" = False ] || continue
        case "
$1" in
        *"
$id "*) tell replaced "$web kept" ;;
        *" $web False "*)
            case "${overlapped:-}" in
            *" $web "*) tell replaced "$web overlapped ${gap:-0}" ;;
            *)
                gap_of "$web"
                tell replaced "$web stop_first ${its_gap:--} $(printf '%s' "$doors" | sed -n "s/^$web [0-9]* [0-9]* stop-first:\([^ ]*\).*/\1/p")"
                ;;
            esac
            ;;
        *) tell replaced "$web created" ;;
        esac
    done <<END
$present
END
    rm -f .slipway/gap.*
}
