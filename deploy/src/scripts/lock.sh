# Parameters: fence? scratch? ci_patience? moving?; after project_files.sh. One command at a time works on a project, none of an
# older claim, and none of another project.

# enter: into the project's directory, alone. The lock is the kernel's: it ends with its holder.
enter() {
    cd "$dir"
    for own in .slipway infra; do
        [ ! -L "$own" ] || die directory-not-ours "$dir/$own is a symbolic link: what is written there would go elsewhere"
    done
    [ -d .slipway ] || mkdir -p -m 700 .slipway
    # The overlay of a plan is its own: there is nobody to wait for, and nobody to end.
    if [ -z "${scratch:-}" ]; then
        exec 9>>.slipway/lock
        if [ -n "${fence:-}" ]; then enter_with_fence; else enter_for_ci; fi
        # Whatever comes now: that all is as the last success has left it isn't known any more.
        if [ -s .slipway/left ]; then : >.slipway/left; fi
    else
        check_owner
    fi
    if { [ -e .git ] || [ -L .git ]; } && command -v disarm_git >/dev/null; then disarm_git; fi
}

# A claim's command. One of an older claim that holds the lock is ended rather than waited for: its worker has lost the
# project and may be frozen, with a connection that looks alive for ever. One of the same claim is an earlier command
# whose connection broke.
enter_with_fence() {
    lock_until='' signal=TERM
    until flock -n 9; do
        now=$(date +%s)
        [ "$now" -lt "${lock_until:=$((now + 120))}" ] || die project-busy "$(describe_lock_holder) works in $dir and doesn't end"
        if kill_lock_holder "$signal"; then signal=KILL; fi
        if flock -w 2 9; then break; fi
    done
    find_fence || die internal-error "$dir/.slipway/fence or $kept/fence holds no number"
    [ "$fence" -ge "${newest:-0}" ] || die stale-fence "claim $newest has acted on $dir: claim $fence may not any more"
    check_owner
    take_ownership
    note_holder "$fence"
    # Whoever comes after a move that wasn't taken back has the project to himself.
    if [ -z "${moving:-}" ] && [ -e .slipway/moving ]; then rm -f .slipway/moving; fi
    if [ "$fence" != "$newest" ]; then put .slipway/fence 600 printf '%s\n' "$fence"; fi
}

# CI's job has no claim. It doesn't touch a deployment's release that is unproven, nor what is being moved: it waits for the
# deployment's end, then gives up. Where an earlier job was killed, this one goes on.
enter_for_ci() {
    lock_until=$(($(date +%s) + ${ci_patience:-300}))
    until flock -w 2 9 && [ ! -e .slipway/moving ] && { [ ! -d .slipway/served ] || [ -f .slipway/served/by-ci ]; }; do
        flock -u 9
        [ "$(date +%s)" -lt "$lock_until" ] ||
            die project-busy "a deployment by Slipway is under way here, or has stopped halfway: run this job again once it has ended"
        sleep 1
    done
    check_owner
    note_holder ci
}

describe_lock_holder() {
    read -r group _ claim <.slipway/holder || :
    case ${claim:-} in
    ci) echo "CI's job, process $group," ;;
    *) echo "process group ${group:-unknown}" ;;
    esac
}

# kill_lock_holder SIGNAL: ends the process group that has the lock, unless its claim is newer than ours.
kill_lock_holder() {
    { read -r group since claim <.slipway/holder; } 2>/dev/null || return 1
    case ${claim:-} in '' | *[!0-9]*) return 1 ;; esac
    if [ "$claim" -gt "$fence" ] || [ "$(started_at "$group")" != "$since" ]; then return 1; fi
    kill -s "$1" -- "-$group" 2>/dev/null
}
