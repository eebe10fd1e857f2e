# Parameters: root slug owner? former? fence?. Where a project lies on disk, whose it is, how its files are written, and how
# git is called.
dir=$root/$slug
base=infra/compose.base.yml
prod=infra/compose.prod.yml
override=infra/compose.slipway.yml
# What outlives the directory: whose the slug is; once it was undeployed, the number of the claim and, as long as there
# are volumes, the settings that their data need.
kept=$root/.slipway-kept/$slug
# What CI's job pulls images with: for root alone, and out of reach of the project, whose compose files may read what
# is beside them.
login_file=/etc/slipway/registry/$slug

# without_login: an .env without the credential that versions before kept in it.
without_login() { sed '/^\(# before \)\{0,1\}SLIPWAY_REGISTRY_AUTH=/d'; }

# put FILE MODE [COMMAND…]: what COMMAND prints, or else stdin, becomes FILE. Made in .slipway, on the same file system: a
# crash leaves no secret elsewhere. Chained, since a caller's `||` would let it go on after a step that failed, with half a
# file.
put() {
    put_as=$1 put_mode=$2
    shift 2
    [ $# -gt 0 ] || set -- cat
    # What was left there may have any mode.
    if [ -e .slipway/put ] || [ -L .slipway/put ]; then rm -f .slipway/put; fi
    (umask 077 && "$@" >.slipway/put) && { [ "$put_mode" = 600 ] || chmod "$put_mode" .slipway/put; } &&
        sync .slipway/put && mv -fT .slipway/put "$put_as" && return
    rm -f .slipway/put
    return 1
}

# mark STAGE: notes the moment up to which the files of that stage are known, and which claim knows them.
mark() {
    read -r boot </proc/sys/kernel/random/boot_id && printf '%s %s\n' "$boot" "${fence:-}" >".slipway/at_$1" || :
}

# check_owner: a slug belongs to one project: its directory, its data, its secrets. One that it was handed over from gives
# way. Where nobody has written a name, whoever the worker's database has is right.
check_owner() {
    registered=
    [ -n "${owner:-}" ] && [ -e "$kept/owner" ] || return 0
    read -r registered <"$kept/owner" || :
    registered=${registered%%[!0-9a-f-]*}
    case " $owner ${former:-} " in *" ${registered:-nobody} "*) return 0 ;; esac
    holder=${registered:-"that is not named in $kept/owner"}
    die slug-taken "$slug on this server belongs to project $holder, and not to $owner; if it's to be handed over: slipway projects hand-over $slug --server HANDLE --from ${registered:-ID} --to $owner --why TEXT"
}

# take_ownership: after check_owner, in the project's directory and alone in it.
take_ownership() {
    [ -n "${owner:-}" ] && [ "$registered" != "$owner" ] || return 0
    (umask 077 && mkdir -p "$kept")
    # What CI's key of the one before may run. That of an older version doesn't ask whose the slug is.
    if [ -n "$registered${former:-}" ] && [ -e .slipway/ci-deploy ]; then
        printf '%s\n' '#!/bin/sh' \
            "echo 'slipway: $slug belongs to another project now, whose next deployment lets CI in again (slug-taken)' >&2" \
            'exit 1' | put .slipway/ci-deploy 700
    fi
    put "$kept/owner" 600 printf '%s\n' "$owner"
}

# find_fence: sets $newest to the newest claim that has acted here; false where that can't be read.
find_fence() {
    newest=
    for file in .slipway/fence "$kept/fence"; do
        number=
        if [ -f "$file" ]; then read -r number <"$file" || :; fi
        case $number in *[!0-9]*) return 1 ;; esac
        if [ "${number:-0}" -gt "${newest:-0}" ]; then newest=$number; fi
    done
}

# started_at PID: when that process was started, in the kernel's ticks. It tells it from a later one with the same number.
started_at() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    set -- ${line##*) }
    shift 19
    echo "$1"
}

# note_holder CLAIM: writes down who has the lock. The bootstrap leads its process group.
note_holder() {
    [ ! -L .slipway/holder ] || rm -f .slipway/holder
    printf '%s %s %s\n' "$$" "$(started_at $$)" "$1" >.slipway/holder
}

# by_hand FILE: whether it's an env file that isn't a link to .env. In .env.prod, nothing but what somebody has put there
# is of any weight.
by_hand() { [ -f "$1" ] && [ ! -L "$1" ]; }

# point_at_env FILE: makes it a link to .env.
point_at_env() {
    ln -sfn ../.env .slipway/link
    mv -fT .slipway/link "$1"
}

# left_alone: services that aren't started, since no profile of theirs is: what somebody has started of them by hand is
# theirs to look after.
left_alone() {
    [ -f "$override" ] || return 0
    while IFS= read -r line; do
        case $line in '# Left alone: '*) printf '%s\n' "${line#*: }" ;; '#'*) ;; *) break ;; esac
    done <"$override"
}

# images FILE: the images that an .env names.
images() { sed -n "s/^[A-Za-z0-9_]*_IMAGE=[\"']\{0,1\}\([^\"' ]*\).*/\1/p" "$@" 2>/dev/null || :; }

# repo_git ARGUMENTS: git in the project, without hooks and questions, and without the server's configuration but for a
# fetch, which may need a proxy ($git_home): a filter that is set up there would be run on what the repository names.
repo_git() {
    set -- git -c safe.directory="$dir" -c core.hooksPath=/dev/null -c core.fsmonitor=false \
        -c advice.detachedHead=false -c gc.autoDetach=false "$@"
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_TERMINAL_PROMPT=0 HOME="${git_home:-/nonexistent}" \
        XDG_CONFIG_HOME="${git_home:-/nonexistent}/.config" GIT_CONFIG_NOSYSTEM="${git_alone:-1}" "$@"
}
