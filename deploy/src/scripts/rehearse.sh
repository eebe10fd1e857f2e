# Parameters: rehearsed? checks? patience?; after project_files.sh, front_door.sh, compose_call.sh, containers.sh, git.sh,
# service_report.sh, stability_gate.sh, sockets.sh. Starts the new release of each web service beside the one that serves,
# without its port and unknown to the others, before anything that runs is touched. What exits, turns unhealthy or doesn't
# answer there never takes the place of what works. Nothing else is rehearsed: it may be a bot, and two must not run with
# one token. Where a service bears no second one of itself, the variable SLIPWAY_REHEARSAL="off" in .env leaves it out.

trial_format="{{.State.Status}} {{.State.ExitCode}} \
{{if index .State \"Health\"}}{{.State.Health.Status}}{{else}}-{{end}} \
{{.State.Pid}} \
$check_format{{range .NetworkSettings.Networks}} {{.IPAddress}}{{end}} restarts {{.RestartCount}}"

# rehearsal SERVICE: starts it beside the one that serves, as $trial, and sets $answer.
rehearsal() {
    # No other project's container can have a name with an underscore there.
    trial=${slug}_rehearsal_$1
    if ! project_compose run -d --no-deps --name "$trial" "$1" >/dev/null; then
        answer="unstartable $1 $trial"
        return
    fi
    await_answer "$1" "$trial"
}

# read_checks: sets $known_checks to the lines of $checks; check_of SERVICE: $check to what is said of that one.
read_checks() { [ -n "${known_checks:-}" ] || known_checks=$(printf '%s' "${checks:-}" | base64 -d); }
check_of() {
    read_checks
    check=
    while read -r its_service its_check; do
        if [ "$its_service" = "$1" ]; then check=$its_check; fi
    done <<END
$known_checks
END
}

# await_answer SERVICE CONTAINER: sets $answer to a verdict, as gate does. Until its port answers as it must or, where it has
# none, until its health check has spoken or five seconds have passed.
await_answer() {
    asked_one=$2
    check_of "$1"
    ends=
    look_at_clock
    calm=$((now + 500))
    ill_since=
    unreached=0
    heard=
    while :; do
        look_at_clock
        looked_at=$now
        state=$(docker inspect --format "$trial_format" "$asked_one")
        again=${state##* }
        state=${state% restarts *}
        if [ -z "$ends" ]; then
            set -- "$1" $state
            read_patience "${6:-0/0/0}"
            set -- "$1" "$asked_one"
            in_time "$lasting"
            ends=$moment
        fi
        answer=
        # Until when only Docker can tell something new.
        quiet=
        case ${again:-0}-$state in
        # Nothing else has to come up at the same time.
        [1-9]*-*) answer="crash-loop $1 $asked_one" ;;
        *-'exited 0 '*) if [ -z "$check" ]; then answer=ok; else answer="crash-loop $1 $asked_one"; fi ;;
        *-exited* | *-dead*) answer="crash-loop $1 $asked_one" ;;
        *' unhealthy '*) answer="unhealthy $1 $asked_one" ;;
        *' starting '*) quiet=$ends ;;
        *)
            # A path may hold what would be a pattern.
            set -f
            if [ -n "$check" ]; then listen_to_one "$1" $state $check; else heard=ok; fi
            set +f
            # Without a health check a program that answers at once may still exit at once.
            case $state in *' healthy '*) calm=0 ;; esac
            look_at_clock
            if [ "$heard" = ok ] && [ "$now" -ge "$calm" ]; then answer=ok; elif [ "$heard" = ok ]; then quiet=$calm; fi
            ;;
        esac
        if [ -z "$answer" ] && [ "$now" -ge "$ends" ]; then
            case $heard in
            '' | ok) answer="wait $1 $asked_one" ;;
            deaf) answer="deaf $1 $asked_one" ;;
            *) answer="ill $1 $asked_one" ;;
            esac
        fi
        [ -z "$answer" ] || break
        if [ -z "$quiet" ]; then sleep 0.5; else await_news "$looked_at" "$quiet" "$asked_one"; fi
    done
    if [ -n "$check" ]; then
        tell asked "$check"
        tell answered "${heard:-nothing}"
    fi
}

# listen_to_one SERVICE STATE EXIT_CODE HEALTH PID PERIOD [ADDRESS] PORT HOST WARM_UP STATUSES PATH: sets $heard to ok, deaf,
# mute or the status of a bad answer, and $answer once that has lasted for as long as a service may take to warm up.
listen_to_one() {
    name=$1
    pid=$5
    shift 6
    # Some networks have no address that can be asked.
    address=
    if [ $# -gt 5 ]; then address=$1; fi
    while [ $# -gt 5 ]; do shift; done
    status=
    if [ -n "$address" ]; then status=$(ask "$address" "$1" "$2" "$5"); fi
    case $status in
    '')
        if listens_inside "$pid" "$1"; then
            # It can't be asked from here, unless it has only just begun to listen.
            unreached=$((unreached + 1))
            if [ "$unreached" -ge 4 ]; then heard=ok; fi
        else
            heard=deaf
        fi
        ;;
    mute) heard=mute ;;
    *)
        heard=$status
        case $4 in
        -) if [ "$status" -ge 200 ] && [ "$status" -lt 400 ]; then heard=ok; fi ;;
        *) case ",$4," in *",$status,"*) heard=ok ;; esac ;;
        esac
        ;;
    esac
    case $heard in
    ok | deaf | mute | '') ill_since= ;;
    *)
        look_at_clock
        ill_since=${ill_since:-$now}
        if [ $((now - ill_since)) -ge $(($3 * 100)) ]; then answer="ill $name $asked_one"; fi
        ;;
    esac
}

# protects: whether something serves that mustn't be touched before the new release is proven as far as it can be.
protects() {
    [ -f .slipway/served/commit ] && ! grep -q '^SLIPWAY_REHEARSAL="off"$' .env
}

# keeps SERVICE: whether files, variables and image of a service that runs are those that serve.
keeps() {
    [ "$(variables_of .env)" = "$(variables_of .slipway/served/env)" ] || return 1
    cmp -s "$override" .slipway/served/override || return 1
    running_of "$1"
    serving=${ids%% *}
    [ -n "$serving" ] || return 1
    sees_no_change "$serving" || return 1
    image=$(docker inspect --format '{{.Config.Image}}' "$serving")
    image=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || :)
    [ "$(docker inspect --format '{{.Image}}' "$serving")" = "$image" ]
}

# variables_of FILE: an .env without Slipway's notes, which no container sees.
variables_of() { grep -vE '^# (given|before|generated|literal) ' "$1"; }

# sees_no_change ID: whether the commit that serves and the new one have the same compose files and environment files, and
# the same of what the container has mounted. So it is after a push whose images CI's job has put there already.
sees_no_change() {
    was=$(cat .slipway/served/commit)
    [ "$(repo_git rev-parse HEAD)" != "$was" ] || return 0
    docker inspect --format '{{range .Mounts}}{{if eq .Type "bind"}}{{println .Source}}{{end}}{{end}}' "$1" |
        while read -r source; do
            case $source in
            "$dir"/*) repo_git diff --quiet "$was" HEAD -- "${source#"$dir"/}" || exit 1 ;;
            "$dir") exit 1 ;;
            esac
        done && repo_git diff --quiet "$was" HEAD -- infra '*.yml' '*.yaml' '*.env' '*.env.*' 2>/dev/null
}

# stands_alone SERVICE: whether there can't be a second one of it: its address is fixed, or its network is another's.
stands_alone() {
    resolve || return 1
    printf '%s\n' "$model" | awk -v "it=\"$1\":" '
        /^  "/ { within = $1 == "\"services\":" }
        within && /^    "/ { its = $1 == it }
        within && its && /^ *"(ipv4_address|ipv6_address|mac_address|network_mode)": "/ && $2 !~ /"none"|"bridge"/ { found = 1 }
        within && its && /^ *"link_local_ips": \[/ { found = 1 }
        END { exit !found }'
}

# rehearse: after see and remove_rehearsals. Rehearses each web service that runs, can run twice and isn't kept; stops at the
# first that fails, with its log, and tells the verdict. What comes next doesn't wait until a rehearsal's container is gone:
# await_removals does.
rehearse() {
    protects || return 0
    for service in ${rehearsed:-}; do
        running_of "$service"
        case " ${next:-} " in *" $service "*) continue ;; esac
        if [ -z "$ids" ] || stands_alone "$service" || keeps "$service"; then continue; fi
        web=$service
        start_missing || return 1
        service=$web
        tell rehearsed "$service"
        rehearsal "$service"
        if [ "$answer" != ok ]; then
            fail_trial "${answer% *}"
            return 1
        fi
        docker rm -fv "$trial" >/dev/null 2>&1 &
        removals="${removals:-} $!"
        trial=
    done
}
# fail_trial VERDICT: tells it, with the log of $trial, which goes.
fail_trial() {
    tell phase rehearsal
    tell verdict "$1"
    docker logs --tail 30 "$trial" >&2 || :
    docker rm -fv "$trial" >/dev/null 2>&1 || :
    trial=
}
await_removals() { [ -z "${removals:-}" ] || wait $removals || :; }
