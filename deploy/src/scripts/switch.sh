# Parameters: drain? proving? wanted_commit? rehearsed? bots?; after project_files.sh, room.sh, front_door.sh,
# compose_call.sh, containers.sh, git.sh, service_report.sh, stability_gate.sh, sockets.sh, rehearse.sh, bots_first.sh,
# door_slots.sh, door_site.sh, hosts.sh, one_shots.sh, next_release.sh. What is proven beside the release that serves gets the
# requests in one step, and what served before ends those that it has. The door's routes are the truth about who serves,
# whenever a script is killed.

slot_format='{{.Id}} {{index .Config.Labels "com.docker.compose.service"}} {{.State.Running}} {{range .HostConfig.PortBindings}}{{range .}}{{.HostIp}},{{.HostPort}} {{end}}{{end}}'

# look_at_slots: after see and read_doors. Sets $slotted to the project's containers of web services: id, service, whether it
# runs, and where it publishes.
look_at_slots() {
    slotted=
    set --
    while read -r its_service _; do
        [ -n "$its_service" ] || continue
        seen_of "$its_service"
        set -- "$@" $ids
    done <<END
$doors
END
    set -- "$@" ${orphans:-}
    [ $# -eq 0 ] || slotted=$(docker inspect --format "$slot_format" "$@")
}

# at_slot SERVICE PORT: sets $found to the containers of the service that publish there, $elsewhere to the others.
at_slot() {
    found='' elsewhere=''
    while read -r its_id its_owner _ its_places; do
        [ "$its_owner" = "$1" ] || continue
        case " $its_places " in *",$2 "*) found="$found$its_id " ;; *) elsewhere="$elsewhere$its_id " ;; esac
    done <<END
$slotted
END
}

# at_former SERVICE: sets $found and $elsewhere as at_slot does, where the service still serves on a port that it's to leave.
at_former() {
    while read -r its_former _; do
        if [ -z "$its_former" ] || is_door "$its_former"; then continue; fi
        serving "$its_former"
        [ -n "$served_by" ] || continue
        if [ "$served_by" = b ]; then place=$slot_b; else place=$slot_a; fi
        at_slot "$1" "$place"
        [ -z "$found" ] || return 0
    done <<END
$(cat "$front/slots/$slug" 2>/dev/null)
END
    served_by=
}

# finish_switches: after see. Ends what a script that was killed has left: of two containers of a service the one that the
# door passes requests on to stays.
finish_switches() {
    next=''
    if [ -e .slipway/pinned ]; then
        pinned=$(cat .slipway/pinned)
        unpin
    fi
    read_doors
    [ -n "$doors" ] || return 0
    look_at_slots
    surplus='' staying='' moves='' leaving=''
    while read -r its_service its_public _; do
        [ -n "$its_service" ] || continue
        slot_of "$its_service" "$its_public"
        # Before its first switch, a service publishes its port itself.
        if [ -n "$served_by" ]; then place=$slot; else place=$its_public; fi
        at_slot "$its_service" "$place"
        if [ -z "$found$served_by" ]; then
            at_former "$its_service"
            leaving=$found
        fi
        if [ -z "$found" ]; then
            # What served is gone. Nothing is taken from anybody where the door follows what is there.
            slots_of "$its_public"
            for its_slot in a b; do
                if [ "$its_slot" = a ]; then place=$slot_a; else place=$slot_b; fi
                at_slot "$its_service" "${place:-none}"
                if [ -n "$found" ] && [ -n "$served_by" ] && [ "$served_by" != "$its_slot" ]; then route "$its_public" "$its_slot"; fi
            done
            continue
        fi
        if [ -n "$elsewhere" ]; then surplus="$surplus$elsewhere" staying="$staying${found%% *} "; fi
        for its_id in $elsewhere; do moves="$moves$its_service $its_public $its_id ${found%% *}
"; done
    done <<END
$doors
END
    [ -n "$surplus" ] || return 0
    pin $staying
    end_old
    # A port that the project is to leave is the door's until the new release takes over.
    [ -n "$leaving" ] || open_door
}

# switch: after the gate. What is proven gets the requests from here on; what served before ends.
switch() {
    [ -n "$doors" ] || return 0
    overlapped=" $next "
    # What a full disk doesn't let be written fails before anybody is answered by the new release.
    if [ -n "$moves" ]; then
        see
        pin ${next_ids:-}
    fi
    while read -r its_service its_public _; do
        [ -n "$its_service" ] || continue
        serving "$its_public"
        case "$overlapped$served_by" in
        *" $its_service "*a) route "$its_public" b ;;
        *" $its_service "*b | *' ') route "$its_public" a ;;
        esac
    done <<END
$doors
END
    next=
    gap=0
    if [ -n "$moves" ]; then free_ports; fi
    open_door
    if [ "$gap" != 0 ]; then await_door; fi
    end_old
}

# free_ports: ends those of $moves that publish their port themselves, as it was before there was a door. Only then can the
# door have it: so long nobody answers.
free_ports() {
    look_at_slots
    set --
    while read -r its_service its_public old new; do
        [ -n "$its_service" ] || continue
        at_slot "$its_service" "$its_public"
        case " $found" in *" $old "*) set -- "$@" "$old" ;; esac
    done <<END
$moves
END
    [ $# -gt 0 ] || return 0
    look_at_clock
    gap_since=$now
    docker stop "$@" >/dev/null
    look_at_slots
    gap=1
}

# await_door: sets $gap to the milliseconds since nobody answered at the ports that were freed.
await_door() {
    in_time 10
    while read -r _ its_public _; do
        [ -n "$its_public" ] || continue
        until [ -n "$(ask 127.0.0.1 "$its_public" localhost /)" ]; do
            look_at_clock
            [ "$now" -lt "$moment" ] || break
            sleep 0.1
        done
    done <<END
$moves
END
    look_at_clock
    gap=$(((now - gap_since) * 10))
}

# end_old: after look_at_slots. The old containers of $moves end the requests that they have, at most for the time that a setting gives them,
# and go. By name, the others find the new ones from before on.
end_old() {
    replaced=$moves
    [ -n "$moves" ] || return 0
    in_time "${drain:-30}"
    olds=
    while read -r its_service _ old _; do
        [ -n "$its_service" ] || continue
        olds="$olds$old "
        drain_one "$old"
    done <<END
$moves
END
    docker stop $olds >/dev/null || :
    docker rm -f $olds >/dev/null || :
    unpin
    name_as_before
    see
    moves='' old_ids=''
}

# name_as_before: once the old containers are gone. People and their tools know them by the names that compose gives first.
name_as_before() {
    while read -r its_service _ _ new; do
        [ -n "${new:-}" ] || continue
        while read -r its_id _ _ _ its_name _; do
            if [ "$its_id" = "$new" ] && [ "$its_name" != "$slug-$its_service-1" ]; then
                docker rename "$new" "$slug-$its_service-1" || :
            fi
        done <<SEEN
$present
SEEN
    done <<END
$moves
END
}

# drain_one ID: waits until the door has no connection to it any more. What was matched before the switch may be connected
# later, on a busy server much later: only several looks in a row that find none, which take longer there, too, are an end.
drain_one() {
    places=
    while read -r its_id _ running its_places; do
        if [ "$its_id" = "$1" ] && [ "$running" = true ]; then places=$its_places; fi
    done <<END
$slotted
END
    for place in $places; do
        case $place in 127.0.0.1,*) place=${place#*,} ;; *) continue ;; esac
        looks=0
        until [ "$looks" -ge 8 ]; do
            sleep 0.1
            if [ -z "$(ss -Htn state established "( dport = :$place )")" ]; then
                looks=$((looks + 1))
                continue
            fi
            looks=0
            look_at_clock
            if [ "$now" -ge "$moment" ]; then
                tell drain_cut "$place"
                break
            fi
        done
    done
}

# start_again: the release whose files are there serves again. What can is begun beside what serves now, and takes over
# once it's well; it has served before, so that it isn't watched for longer than anything else.
start_again() {
    placed='' proving='' wanted_commit='' putting_back=yes
    find_firsts || return 1
    see
    ready_door
    finish_switches
    if ! choose_next || ! try_next || ! prove_next; then next='' moves=''; fi
    start_others >&2 || return 1
    see
    seen_of
    without_old $ids
    gate_on $ids
    [ "$answer" = ok ] || return 1
    switch
}
