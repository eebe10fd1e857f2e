# Parameters: needles logins prefix request? report ports comment; after project_files.sh, front_door.sh, containers.sh,
# lock.sh, as_left.sh, leak_sweep.sh. What is looked after once an attempt has ended: images that nobody needs any more,
# how a success has left the server, and known secrets in places where they shouldn't be, never the secrets.

# see_own: all that is to be known of containers, by two questions.
see_own() {
    inspected=
    if list_containers; then
        inspect_own "$left_container{{\"\\n\"}}$origin_format{{\"\\n\"}}pid {{.State.Pid}}"
    else
        listed=
    fi
}

# prune: removes images of this project's own repository that no container names, no project's .env, and no release that
# may be restored. Others deploy meanwhile: a container that goes in between is no failure.
prune() {
    own=$(printf '%s' "$prefix" | base64 -d)
    keep="
$(images "$root"/*/.env "$root"/*/.slipway/served/env)
$(cat "$root"/*/.slipway/previous 2>/dev/null)
$(while read -r _ _ image _; do printf '%s\n' "$image"; done <<END
$listed
END
)
"
    set --
    while read -r repository tag digest; do
        case $repository in "$own"*) ;; *) continue ;; esac
        case $keep in
        *"
$repository:$tag
"* | *"
$repository:$tag@"* | *"@$digest
"*) continue ;;
        esac
        if [ "$tag" = '<none>' ]; then set -- "$@" "$repository@$digest"; else set -- "$@" "$repository:$tag"; fi
    done <<END
$(docker image ls --digests --format '{{.Repository}} {{.Tag}} {{.Digest}}')
END
    [ $# -gt 0 ] || return 0
    # Docker itself refuses what a container uses.
    gone="
$(docker image rm "$@" 2>/dev/null || :)
"
    for reference in "$@"; do
        case $gone in *"
Untagged: $reference
"*) tell pruned "$reference" ;; esac
    done
}

# keep_as_left: writes down how the server is left; root alone may, and may read them.
keep_as_left() {
    [ -O / ] && [ -n "$listed" ] || return 0
    # Cut off, it would say less than is to be compared.
    { printf '%s\n' "$request" "$report" && as_left && has_its_images && has_rules && note_tracked; } >"$left.new" &&
        has_its_moments && mv -fT "$left.new" "$left" || rm -f "$left" "$left.new"
}

# has_its_images: after list_containers. Whether each container's tag means its image still.
has_its_images() {
    while read -r _ _ image project; do
        case $project:$image in "$slug:sha256:"*) return 1 ;; esac
    done <<END
$listed
END
}

# has_its_moments: whether no stage's mark is later than this. A clock that was set back meanwhile has all that was changed before
# the mark's time comes once more look older than the mark.
has_its_moments() {
    for key in clone env key firewall; do
        # Every shell that is a server's sh has it.
        # shellcheck disable=SC3013
        if [ ".slipway/at_$key" -nt "$left.new" ]; then return 1; fi
    done
}

# has_rules: after as_left. Whether each port has a rule where ufw is on: one that somebody has removed since stage firewall
# looked is no part of how the server was left.
has_rules() {
    case $found in *:ENABLED=yes*) ;; *) return 0 ;; esac
    for key in $ports; do
        case $found in *"### tuple ### "*" $key "*) ;; *) return 1 ;; esac
    done
}

# note_tracked: prints where containers may write, if files of the commit are there as well: git has to look at those.
note_tracked() {
    find_writable || return 1
    [ -n "$places" ] || return 0
    tracked=$(repo_git ls-files -- $places) || return 1
    [ -z "$tracked" ] || printf 'tracked%s\n' "$places"
}

# look_after: after see_own; in the project's directory, and alone there.
look_after() {
    # Left by a command that was killed.
    for left_over in .slipway/put .slipway/link .slipway/note .slipway/left.new; do
        if [ -e "$left_over" ] || [ -L "$left_over" ]; then rm -rf "$left_over"; fi
    done

    prune
    if [ -n "${request:-}" ]; then keep_as_left; fi

    sweep_project
    sweep_folders /root/.docker /home/*/.docker /dev/shm/slipway."$slug".*

    # Processes of our own namespace: a container's environment holds the project's secrets rightly.
    space=
    set --
    while read -r its_space place; do
        : "${space:=$its_space}"
        place=${place%/ns/pid}
        case $its_space:$place in "$space":*/self) ;; "$space":*) set -- "$@" "$place/cmdline" "$place/environ" ;; esac
    done <<END
$(stat -Lc '%i %n' /proc/self/ns/pid /proc/[0-9]*/ns/pid 2>/dev/null)
END
    holding -f - -- "$@" | while IFS=/ read -r _ _ pid file; do
        tell leak "the $file of process $pid ($(cat "/proc/$pid/comm" 2>/dev/null || echo gone))"
    done

    # What images are pulled with belongs nowhere, not even where the project's own secrets are.
    if [ -n "$logins" ]; then
        needles=$logins
        set --
        for file in .env .slipway/served/env infra/.env infra/.env.prod; do
            if [ -f "$file" ] && [ ! -L "$file" ]; then set -- "$@" "$file"; fi
        done
        while read -r key pid; do
            if [ "$key" = pid ]; then set -- "$@" "/proc/$pid/environ"; fi
        done <<END
$inspected
END
        holding -f - -- /dev/null "$@" | while read -r file; do
            case $file in
            /*) tell leak "the environment of one of the project's containers, which has what images are pulled with" ;;
            *) tell leak "$dir/$file, which has what images are pulled with" ;;
            esac
        done
    fi
}
