# Parameters: proving? wanted_commit? repository? rehearsed? bots?; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, git.sh, service_report.sh, stability_gate.sh, sockets.sh, rehearse.sh, bots_first.sh, hosts.sh. Behind
# the front door a new release of a web service runs beside the one that serves, on the other slot, until it's proven.

# hashes: sets $wanted_hashes to what compose labels the containers with that it would make now.
hashes() { wanted_hashes=$(project_compose config --hash '*'); }

# is_current SERVICE ID: whether compose would leave that container as it is.
is_current() {
    set -- "$1" $(docker inspect --format '{{index .Config.Labels "com.docker.compose.config-hash"}} {{.Image}} {{.Config.Image}}' "$2")
    case "
${wanted_hashes:-}
" in
    *"
$1 $2
"*) ;;
    *) return 1 ;;
    esac
    [ "$(docker image inspect --format '{{.Id}}' "$4" 2>/dev/null)" = "$3" ]
}

# choose_next: after see. Sets $next to the web services whose new release can run beside the old one, and has to; $moves to
# a line for each: service, port, the old container.
choose_next() {
    next='' next_ids='' old_ids='' moves=''
    read_doors
    [ -n "$doors" ] && protects || return 0
    hashes || return 1
    chosen=
    while read -r web its_public _ its_way _; do
        [ "$its_way" = overlap ] || continue
        running_of "$web"
        case $ids in '' | *' '?*) continue ;; esac
        if is_current "$web" "${ids% }" || has_unnamed_volume "$web"; then continue; fi
        chosen="$chosen $web"
        old_ids="$old_ids$ids"
        moves="$moves$web $its_public ${ids% }
"
    done <<END
$doors
END
    next=${chosen# }
}

# try_next: after choose_next. Starts the new release of each service of $next on its other slot, and waits until it answers
# there; tells the verdict and is false where one fails. Until they are proven, nobody finds them by name. Where bots will
# be replaced, it goes on until no more than the time that they take themselves is missing.
try_next() {
    [ -n "$next" ] || return 0
    start_missing || return 1
    for service in $next; do tell rehearsed "$service"; done
    pin $old_ids
    scale_next
    if ! project_compose up --no-start --no-build --no-recreate $scales $next >&2; then
        answer="unstartable ${next%% *}"
    else
        see
        note_next
        answer=ok
        docker start $next_ids >/dev/null || answer="unstartable ${next%% *} ${next_ids%% *}"
        [ "$answer" != ok ] || ask_next
        early=$((${proving:-5} - 6))
        if [ "$answer" = ok ] && [ -n "${bots:-}" ] && [ "$early" -gt 0 ]; then watch_next "$early"; fi
    fi
    judge_next
}

# prove_next: after try_next and replace_bots. Watches them until each has run for as long as it has to, and answers still.
prove_next() {
    [ -n "$next" ] || return 0
    watch_next "${proving:-5}"
    [ "$answer" != ok ] || ask_next
    judge_next
}
watch_next() {
    trial_time=$(($1 * 100))
    usual=$patience
    patience=$((patience + $1))
    settle $next_ids
    trial_time='' patience=$usual
}
judge_next() {
    [ "$answer" != ok ] || return 0
    tell phase rehearsal
    tell verdict "${answer% *}"
    case $answer in *' '*' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
    forget_next
    return 1
}

# note_next: after see. Sets $next_ids, and adds the new container to each line of $moves.
note_next() {
    lines=
    while read -r service its_public old; do
        [ -n "$service" ] || continue
        seen_of "$service"
        for id in $ids; do
            [ "$id" != "$old" ] || continue
            next_ids="$next_ids$id "
            lines="$lines$service $its_public $old $id
"
        done
    done <<END
$moves
END
    moves=$lines
}

# start_missing: what the new release may need and isn't there yet, such as a new cache, but for what depends on $pending.
# What others wait for until it's healthy is waited for.
start_missing() {
    find_bound ${pending:-}
    absent=
    for service in $(all_services); do
        case "$bound${rehearsed:-} ${bots:-} ${next:-} ${firsts:-} ${helped:-} " in *" $service "*) continue ;; esac
        seen_of "$service"
        if [ -z "$ids" ]; then absent="$absent $service"; fi
    done
    [ -n "$absent" ] || return 0
    helped="${helped:-}$absent"
    waiting=${next:-}
    next=
    there=yes
    project_compose up -d --no-build --no-deps $absent >&2 || there=no
    next=$waiting
    if [ "$there" = no ]; then
        tell phase failed
        tell verdict "wait ${absent# }"
        return 1
    fi
    see
    await_helpers
}
await_helpers() {
    awaited=$(printf '%s\n' "$model" | awk '
        /^        "[^"]*": \{$/ { on = $1; gsub(/[":]/, "", on) }
        /^          "condition": "service_healthy"/ { printf "%s ", on }')
    helpers=
    for service in $absent; do
        case " $awaited" in *" $service "*) seen_of "$service"; helpers="$helpers$ids" ;; esac
    done
    [ -n "$helpers" ] || return 0
    trial_time=1
    settle $helpers
    trial_time=
    [ "$answer" != ok ] || return 0
    tell phase rehearsal
    tell verdict "${answer% *}"
    docker logs --tail 30 "${answer##* }" >&2 || :
    return 1
}

# ask_next: sets $answer to ok once each of $next_ids answers as it must.
ask_next() {
    while read -r service _ _ id; do
        [ -n "$service" ] || continue
        await_answer "$service" "$id"
        ask_commit "$service" "$id"
        [ "$answer" = ok ] || return 0
    done <<END
$moves
END
}

# ask_commit SERVICE ID: after await_answer. Sets $answer where the page names another commit than is wanted: $wanted_commit, or
# where that's "revision" what the image itself says that it was built from.
ask_commit() {
    [ "$answer" = ok ] && [ -n "$check" ] || return 0
    expected=${wanted_commit:-}
    if [ "$expected" = revision ]; then revision_of "$2"; fi
    if [ -n "$expected" ] && is_another $check; then
        tell answered_as "$named"
        answer="another $1 $2"
    fi
}

# all_answer: asks each web service for what a deployment is asked for in the end, from inside its network.
all_answer() {
    read_checks
    for service in $(printf '%s\n' "$known_checks" | cut -d ' ' -f 1 | sort -u); do
        running_of "$service"
        without_old $ids
        for container in $ids; do
            await_answer "$service" "$container"
            ask_commit "$service" "$container"
            [ "$answer" != ok ] || continue
            tell verdict "${answer% *}"
            docker logs --tail 30 "$container" >&2 || :
            return 1
        done
    done
}

# revision_of ID: sets $expected to the commit that the labels of the container's image name, if they are this project's: an
# image inherits those of the image that it's built upon.
revision_of() {
    expected=
    read -r its_source its_revision <<END
$(docker inspect --format '{{or (index .Config.Labels "org.opencontainers.image.source") "-"}} {{index .Config.Labels "org.opencontainers.image.revision"}}' "$1" | tr '[:upper:]' '[:lower:]')
END
    its_source=${its_source%/}
    case ${its_source%.git} in
    */"$(printf '%s' "${repository:-}" | tr '[:upper:]' '[:lower:]')") expected=$(printf '%s' "$its_revision" | grep -xE '[0-9a-f]{40}' || :) ;;
    esac
}

# is_another PORT HOST WARM_UP STATUSES PATH: whether the page at $address names another commit than $expected, and
# which, in $named. As the worker reads it: of a JSON object, what stands in it directly.
is_another() {
    page=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" &&
        printf "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" "$3" "$2" >&3 && head -c 65536 <&3' \
        "$address" "$1" "$2" "$5" 2>/dev/null | tr -d '\0\r' | sed '1,/^$/d' | tr '\nA-Z' ' a-z' || :)
    named=$(printf '%s' "$page" | sed -nE 's/^ *([0-9a-f]{40}) *$/\1/p')
    if [ -z "$named" ]; then
        page=$(printf '%s' "$page" | sed -nE 's/^ *\{(.*)\} *$/\1/p' | sed -E ':a;s/\{[^{}]*\}|\[[^][]*\]//g;ta')
        for key in commit commit_sha git_commit git_sha revision sha version; do
            # The beginning of a commit may be something else there: a migration has a revision as well.
            case $key in revision | sha | version) least=40 ;; *) least=7 ;; esac
            [ -n "$named" ] || named=$(printf '%s' ",$page" | sed -nE "s/.*[, ]\"$key\" *: *\"([0-9a-f]{$least,40})\".*/\1/p")
        done
    fi
    [ -n "$named" ] || return 1
    case $expected in "$named"*) return 1 ;; esac
}

# forget_next: the new release goes without having had a request.
forget_next() {
    if [ -n "$next_ids" ]; then docker rm -fv $next_ids >/dev/null 2>&1 || :; fi
    unpin
    next='' next_ids='' old_ids='' moves=''
}

# without_old IDS: sets $ids to those of them that aren't about to go, and to what is to take over, whatever has become of it.
without_old() {
    ids=${next_ids:-}
    for id in "$@"; do
        case " ${old_ids:-}${next_ids:-}" in *" $id "*) ;; *) ids="$ids$id " ;; esac
    done
}
