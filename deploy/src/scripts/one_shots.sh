# Parameters: rehearsed? bots? putting_back?; after project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh.
# What services wait for until it has ended, a migration for one. To run it takes next_release.sh and what that is after.

# find_firsts: sets $firsts to the services that others wait for until they have ended, each after those that it waits for.
# One that is under a profile may be waited for, and not be there.
find_firsts() {
    resolve || return 1
    firsts=$(printf '%s\n' "$model" | awk '
        /^  "/ { within = $1 == "\"services\":" }
        within && /^    "[^"]*": \{$/ { name = $1; gsub(/[":]/, "", name); there[name] }
        within && /^        "[^"]*": \{$/ { on = $1; gsub(/[":]/, "", on) }
        within && /^          "condition": "service_completed_successfully"/ { first[on]; print on, on; print on, name }
        END { for (on in first) if (on in there) print "first", on }' | sort -u)
    order=$(printf '%s\n' "$firsts" | grep -v '^first ' | tsort 2>/dev/null) || :
    firsts=$(for service in $order; do
        if printf '%s\n' "$firsts" | grep -qxF "first $service"; then printf '%s ' "$service"; fi
    done)
}

# run_firsts: after choose_next. Runs what the new release waits for until it has ended, a migration for one, before anything
# of it is tried: beside what serves, as a container that is only tried. What has run already as it would now isn't run; nor
# what needs the new release itself. Where all was stopped, compose starts what it needs, and then it.
run_firsts() {
    [ -f .slipway/served/commit ] || putting_back=
    if ! protects && [ -z "${putting_back:-}" ]; then return 0; fi
    find_firsts || return 1
    if [ -z "$firsts" ] || [ -n "${putting_back:-}" ]; then return 0; fi
    find_seen running ''
    [ -n "$ids" ] || return 0
    find_bound ${rehearsed:-} ${bots:-}
    early=
    for first in $firsts; do
        case "$bound" in *" $first "*) ;; *) early="$early $first" ;; esac
    done
    hashes || return 1
    pending=$firsts
    for first in $early; do
        seen_of "$first"
        ids=${ids% }
        if [ -n "$ids" ] && is_current "$first" "${ids%% *}" && has_succeeded "${ids%% *}"; then continue; fi
        start_missing || return 1
        tell rehearsed "$first"
        run_first "$first" || return 1
    done
    pending=
}
has_succeeded() { [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$1")" = 'exited 0' ]; }
run_first() {
    trial=${slug}_rehearsal_once_$1
    answer=ok
    if ! project_compose run -d --no-deps --name "$trial" "$1" >/dev/null; then
        answer="unstartable $1"
    else
        in_time 3600
        lasting=$(((${moment:-0} - ${now:-0}) / 100))
        if [ "$lasting" -lt 1 ]; then lasting=1; fi
        if ! timeout "$lasting" docker wait "$trial" >/dev/null; then
            answer="unended $1"
        elif ! has_succeeded "$trial"; then
            answer="crash-loop $1"
        fi
    fi
    if [ "$answer" != ok ]; then
        fail_trial "$answer"
        return 1
    fi
    docker rm -fv "$trial" >/dev/null 2>&1 || :
    trial=
}

# forget_firsts: removes what others wait for until it has ended, where it was made and not run.
forget_firsts() {
    see
    for service in $firsts; do
        made=$(printf '%s\n' "$present" | awk -v "it=$service" '$2 == it && $3 == "False" && $4 == "created" { print $1 }')
        if [ -n "$made" ]; then docker rm $made >/dev/null; fi
    done
    see
}
