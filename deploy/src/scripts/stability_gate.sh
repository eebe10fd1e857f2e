# Parameters: patience? limit?; after containers.sh, service_report.sh. Looks at the project's containers until it shows
# whether they run and stay: whenever Docker tells something of them, and once each has run for as long as it must.
nl='
'
# Moments are hundredths of a second since 1970. They're counted on from here by how long the server is up, which any
# shell reads without a program.
begun=$(date +%s%2N)
read -r ticks _ </proc/uptime
begun=$((begun - ${ticks%.*}${ticks#*.}))

# look_at_clock: sets $now.
look_at_clock() {
    read -r ticks _ </proc/uptime
    now=$((begun + ${ticks%.*}${ticks#*.}))
}
look_at_clock
entered=$now
starts=

# in_time SECONDS: sets $moment to the one that far from now, unless the whole script must come to its end before, $limit
# seconds after its start: a verdict is worth more than being cut off without one.
in_time() {
    look_at_clock
    moment=$((now + $1 * 100))
    if [ -n "${limit:-}" ] && [ "$moment" -gt $((entered + limit * 100)) ]; then moment=$((entered + limit * 100)); fi
}

# await_news SINCE UNTIL IDS: waits until Docker tells something of these containers that wasn't there at $since yet. In
# case that it tells nothing, for five seconds at most; then $silent is set.
await_news() {
    since=${1}0000000 until=$2
    shift 2
    # What was heard already is no news. Its time is Docker's own, in billionths of a second.
    if [ "$heard_at" -ge "$since" ]; then since=$((heard_at + 1)); fi
    look_at_clock
    if [ "$until" -gt $((now + 500)) ]; then until=$((now + 500)); fi
    unnamed=$#
    while [ "$unnamed" -gt 0 ]; do
        set -- "$@" --filter "container=$1"
        shift
        unnamed=$((unnamed - 1))
    done
    asked_at=$now
    # Docker's program ends by itself only with the time.
    news=$(
        {
            sh -c 'echo $$ && exec docker events "$@"' sh --since "${since%?????????}.${since#"${since%?????????}"}" \
                --until "${until%??}.${until#"${until%??}"}" --filter type=container --filter event=start \
                --filter event=die --filter event=health_status --format '{{.TimeNano}}' "$@" 9>&- | {
                read -r asking && read -r at && echo "$at" && kill "$asking" || :
            }
        } 2>/dev/null
    ) || :
    case $news in '' | *[!0-9]*) silent=yes ;; *) heard_at=$news silent= ;; esac
    # A daemon that went away answers at once, and what restarts again and again is never silent.
    look_at_clock
    if [ "$now" -lt "$until" ]; then silent=; fi
    if [ "$now" -lt "$until" ] && [ "$now" -lt $((asked_at + 25)) ]; then sleep 0.25; fi
}
heard_at=0

# read_starts: sets $starts to the moments at which the containers of $sample were started, a line each.
read_starts() {
    texts=
    while read -r _ _ _ _ _ text _; do texts=$texts${text:-now}$nl; done <<END
$sample
END
    if [ "$texts" = "${known_texts:-}" ]; then return; fi
    starts=$(printf '%s' "$texts" | date -f - +%s%2N) && known_texts=$texts
}

# first_seen ID: sets $earlier to how often the container had been restarted when it was seen first, and $of_service to
# what it belongs to.
first_seen() {
    earlier=0 of_service=-
    case $baseline in *"$nl$1 "*) ;; *) return 0 ;; esac
    earlier=${baseline#*"$nl$1 "}
    earlier=${earlier%%"$nl"*}
    of_service=${earlier#* } earlier=${earlier%% *}
}

# judge_sample IDS: sets $answer to ok, or wait, crash-loop, unhealthy or gone with the service and its container, and $ripe to
# the moment at which it may be ok, if nothing but time is missing. Seconds a service must have run: 5, or what $trial_time
# says in hundredths, or 15 once it has restarted.
judge_sample() {
    read_starts || :
    look_at_clock
    answer=ok ripe=$now
    later=$starts$nl
    while read -r service state health restarts exit_code _ _ policy id _; do
        started=${later%%"$nl"*}
        started=${started:-$now}
        later=${later#*"$nl"}
        first_seen "$id"
        if [ "$state" = exited ] && [ "$exit_code" = 0 ] && [ "$policy" != unless-stopped ]; then
            case $ended in *" $id "*) ;; *) ended="$ended$id " ;; esac
            continue
        fi
        if [ "$state" = restarting ] || [ "${restarts:-0}" -gt $((${earlier:-0} + 1)) ] || [ "$state" = exited ] || [ "$state" = dead ]; then
            answer="crash-loop $service $id"
            break
        fi
        if [ "$health" = unhealthy ]; then
            answer="unhealthy $service $id"
            break
        fi
        needed=${trial_time:-500}
        if [ "${restarts:-0}" -gt 0 ]; then needed=1500; fi
        if [ "$state" != running ] || [ "$health" = starting ]; then
            answer="wait $service $id"
            ripe=
        elif [ $((now - started)) -lt "$needed" ]; then
            answer="wait $service $id"
            if [ -n "$ripe" ] && [ $((started + needed)) -gt "$ripe" ]; then ripe=$((started + needed)); fi
        fi
    done <<END
$sample
END
    case $answer in ok | wait*) ;; *) return 0 ;; esac
    for id in "$@"; do
        # Whoever tidies up takes away what has ended as it should.
        case "$sample$ended" in *" $id "*) continue ;; esac
        first_seen "$id"
        answer="gone $of_service $id" ripe=
        return 0
    done
}

# read_baseline: of the first $sample, sets $baseline to the restarts so far and the service, by container, and $lasting to
# the longest patience that a container's health check asks for.
read_baseline() {
    baseline=$nl
    longest=$patience
    while read -r service _ _ restarts _ _ _ _ id check_word _; do
        baseline="$baseline$id $restarts $service$nl"
        read_patience "${check_word:-0/0/0}"
        if [ "$lasting" -gt "$longest" ]; then longest=$lasting; fi
    done <<END
$sample
END
    lasting=$longest
}

# read_patience CHECK: sets $lasting to the seconds that a container gets, from its check's words in $check_format: what it
# says itself on a slow start, on top of the patience that all have, or of the time that its check takes to say no. Each is
# ten minutes at most. Docker's own interval is 30 s, its tries are 3.
read_patience() {
    period=$((${1%%/*} / 1000000000))
    tries=${1##*/}
    interval=${1#*/}
    interval=$((${interval%%/*} / 1000000000))
    if [ "$period" -gt 600 ]; then period=600; fi
    if [ "$tries" = 0 ]; then tries=3; fi
    lasting=$((interval * tries))
    if [ "$lasting" -gt 600 ]; then lasting=600; fi
    # Where nobody waits, only a start that is still going on is waited for.
    if [ "$patience" = 0 ]; then lasting=0; fi
    if [ "$lasting" -lt "$patience" ]; then lasting=$patience; fi
    lasting=$((lasting + period))
}

# settle IDS: waits until these containers are stable, at most $lasting seconds; sets $answer to the verdict and
# $sample to how they were last.
settle() {
    deadline=
    bad=0
    silent=
    ended=' '
    while :; do
        look_at_clock
        # Where only time was missing, and Docker has told nothing of them, they are as they were.
        if [ -z "$silent" ]; then
            looked_at=$now
            sample=$(docker inspect --format "$format" "$@" || :)
        fi
        silent=
        if [ -z "$deadline" ]; then
            read_baseline
            # Once `up` has failed there's nothing to wait for.
            if [ "${up:-done}" != "done" ]; then lasting=$patience; fi
            in_time "$lasting"
            deadline=$moment
        fi
        judge_sample "$@"
        case $answer in
        ok) break ;;
        wait*) bad=0 ;;
        # Once may be a passing state: a restart that succeeds, a check that was too early.
        *) bad=$((bad + 1)) ;;
        esac
        # Nothing at all is found while the daemon is away.
        if [ -z "$sample" ]; then bad=0; fi
        if [ "$bad" -ge 5 ] || [ "$now" -ge "$deadline" ]; then break; fi
        if [ "$bad" -gt 0 ]; then
            sleep 1
        else
            only_time=$ripe
            if [ -z "$ripe" ] || [ "$ripe" -gt "$deadline" ]; then ripe=$deadline; fi
            await_news "$looked_at" "$((ripe + 1))" "$@"
            # What is waited for may have been missed.
            if [ -z "$only_time" ]; then silent=; fi
        fi
    done
}

# gate: settles all of the project's containers and tells the services; a bare `wait` where there is none.
gate() { gate_on $(containers); }
gate_on() {
    # `up` has failed before it made any: its own words say why.
    if [ $# -eq 0 ]; then
        answer='wait'
        return 0
    fi
    settle "$@"
    tell_services "$sample"
}
