# Parameters: bots? rehearsed?; after project_files.sh, front_door.sh, compose_call.sh, containers.sh, git.sh,
# service_report.sh, stability_gate.sh, sockets.sh, rehearse.sh. Two bots must not run with one token, so that a new one
# can't be tried beside the old one: it takes its place before anything that serves the web is touched. One that fails
# costs the web services nothing.

# serves_web: whether a web service runs.
serves_web() {
    for service in ${rehearsed:-}; do
        running_of "$service"
        [ -z "$ids" ] || return 0
    done
    return 1
}

# replace_bots: after see. Replaces all modules that serve no web and aren't kept, and waits until they're stable; tells the verdict
# where they aren't. What they may need and isn't there yet, such as a new cache, is started before them. Sets $placed to
# those that nothing is left to do for.
replace_bots() {
    placed=
    if [ -z "${bots:-}" ] || ! protects || ! serves_web; then return 0; fi
    new=
    for service in $bots; do
        if keeps "$service"; then placed="$placed $service"; else new="$new $service"; fi
    done
    [ -n "$new" ] || return 0
    missing=
    for service in $(all_services); do
        case " ${rehearsed:-} $bots ${putting_back:+$firsts} " in *" $service "*) continue ;; esac
        seen_of "$service"
        if [ -z "$ids" ]; then missing="$missing $service"; fi
    done
    up=done
    answer=ok
    if put_in_place >&2 && give_back $new && see; then begin $missing && begin $new || :; else up=failed; fi
    if [ "$answer" = ok ] && [ "$up" = "done" ]; then return 0; fi
    tell change changed
    tell_all
    if [ "$up" = failed ]; then tell phase failed; else tell phase bots; fi
    tell verdict "${answer% *}"
    case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
    return 1
}

# put_in_place: containers of $new in the place of the old ones, and of $missing. They are the very ones that compose
# asks for when it starts all: to start a service alone, without what it depends on, compose makes another one of it.
# Only compose hands a volume without a name on to the next container, and so it replaces what has such a one, twice.
put_in_place() {
    for service in $new; do
        seen_of "$service"
        if [ -n "$ids" ] && has_unnamed_volume "$service"; then
            project_compose up -d --no-build --no-deps "$service" || return 1
            continue
        fi
        placed="$placed $service"
        if [ -n "$ids" ]; then docker stop $ids >/dev/null && docker rm -f $ids >/dev/null || return 1; fi
    done
    # With what they depend on: without it, compose labels them as others than it asks for the next time.
    scale_next
    project_compose up --no-start --no-build --no-recreate $scales $new $missing ${next:-}
}

# has_unnamed_volume SERVICE: whether one of its containers has a volume that an image or a service declares without a
# name.
has_unnamed_volume() {
    printf '%s\n' "$present" | grep -qE "^[0-9a-f]+ $1 .*[ ,][0-9a-f]{64}(,|\$)"
}

# begin [SERVICES]: starts their containers, and waits until it shows that they run: for two seconds, or fifteen where one
# has restarted. What's left of the five is counted with the web services' own, so that nobody waits twice.
begin() {
    [ $# -gt 0 ] || return 0
    seen_of "$@"
    [ -n "$ids" ] || return 0
    usual=$patience
    # Nothing more will start: what is there shows soon why.
    if ! docker start $ids >/dev/null; then up=failed patience=10; fi
    # By its name, they are to find the release that serves.
    if [ -n "${next:-}" ]; then
        see
        pin ${old_ids:-}
    fi
    trial_time=200
    settle $ids
    trial_time=
    patience=$usual
    [ "$answer" = ok ] && [ "$up" = "done" ]
}

# start_others: starts all services but those that are in their place, or have a new release beside the old one. Compose
# stops for a while what depends on a service that it replaces: a new bot would be started twice.
start_others() {
    # What isn't to be behind the front door any more publishes its port itself from here on.
    if [ -z "$doors" ]; then close_door; else give_back; fi
    keep_orphans
    others=
    if [ -n "$placed${next:-}" ]; then
        for service in $(all_services); do
            case " $placed ${next:-} " in *" $service "*) ;; *) others="$others $service" ;; esac
        done
    fi
    if [ -z "${next:-}" ]; then
        bring_up $remove_orphans $others
    else
        start_beside_next
    fi
}

# bring_up OPTIONS: compose's `up`. What a release that is put back waited for has ended once, and isn't run again: the failed
# release may have migrated what the older migration refuses.
bring_up() {
    if [ -z "${putting_back:-}" ] || [ -z "${firsts:-}" ]; then
        project_compose up -d --no-build "$@"
        return
    fi
    project_compose up --no-start --no-build "$@" || return 1
    forget_firsts
    asleep=
    while read -r _ its_service once its_state _; do
        case "$once $its_state ${alone:-} $firsts " in
        *" $its_service "*) ;;
        'False created '* | 'False exited '*) case "$asleep " in *" $its_service "*) ;; *) asleep="$asleep $its_service" ;; esac ;;
        esac
    done <<END
$present
END
    # In the order in which they wait for each other.
    [ -z "$asleep" ] || project_compose up -d --no-build --no-deps --no-recreate $asleep
}

# keep_orphans: after see. Sets $remove_orphans for compose. What served at the door and is no service any more ends after the
# switch, with what else is replaced; its port may be another service's from then on.
keep_orphans() {
    remove_orphans=--remove-orphans orphans=
    [ -n "$doors" ] || return 0
    known=" $(all_services | tr '\n' ' ')$alone "
    while read -r its_id its_service once _; do
        case "$once$known" in False*" $its_service "*) ;; False*) orphans="$orphans$its_id " ;; esac
    done <<END
$present
END
    [ -n "$orphans" ] || return 0
    look_at_slots
    remove_orphans='' gone=''
    for its_id in $orphans; do
        case ${slotted:-} in
        *"$its_id "*" true 127.0.0.1,"*) moves="$moves- - $its_id
" ;;
        *) gone="$gone$its_id " ;;
        esac
    done
    if [ -n "$gone" ]; then docker stop $gone >/dev/null && docker rm -f $gone >/dev/null; fi
}

# start_beside_next: starts $others. Compose looks after what a service depends on as well, and would take one of two
# containers away: what depends on those of $next is started without that.
start_beside_next() {
    find_bound $next
    free='' held=''
    for service in $others; do
        case "$bound" in *" $service "*) held="$held $service" ;; *) free="$free $service" ;; esac
    done
    scale_next
    if [ -n "$free" ]; then
        bring_up $remove_orphans $free || return 1
    else
        project_compose up --no-start --no-build --no-recreate $remove_orphans $scales $next || return 1
    fi
    [ -z "$held" ] || bring_up --no-deps $held
}

# scale_next: sets $scales to compose's options for a second container of each service of $next.
scale_next() {
    scales=
    for service in ${next:-}; do scales="$scales --scale $service=2"; done
}
