# Parameters: root slug. The one place that knows how a project lies on disk and how compose is called for it.
dir=$root/$slug
base=infra/compose.base.yml
prod=infra/compose.prod.yml
override=infra/compose.slipway.yml
# What an undeployment leaves: the number of its claim and, as long as there are volumes, the settings that their data
# need.
kept=$root/.slipway-kept/$slug

# project_compose ARGUMENTS: the one prefix of every compose call, run in $dir.
project_compose() {
    if [ -f "$override" ]; then set -- -f "$override" "$@"; fi
    compose -f "$base" -f "$prod" "$@"
}

# compose ARGUMENTS: with the variables of $env_file and no others. Those of the server's own environment would beat
# them: only what docker itself works with stays.
env_file=.env
compose() {
    others=$(env | sed -n -E '/^(PATH|HOME|LC_ALL|TMPDIR|(DOCKER|XDG)_[A-Z_]+|[A-Za-z]+_(proxy|PROXY))=/d
        s/^([A-Za-z_][A-Za-z0-9_]*)=.*/-u \1/p')
    values=$env_file
    if [ ! -f "$values" ]; then values=/dev/null; fi
    env $others docker compose --project-name "$slug" --env-file "$values" "$@"
}

# enter: into the project's directory, alone. The lock is the kernel's: it ends with its holder.
enter() {
    cd "$dir"
    mkdir -p -m 700 .slipway
    # The layer of a plan is nobody else's: there is nobody to wait for, and nobody to end.
    if [ -z "${scratch:-}" ]; then
        exec 9>>.slipway/lock
        if [ -n "${fence:-}" ]; then enter_with_fence; else enter_for_ci; fi
    fi
    # Locks of a git that was killed: whoever is in here is alone.
    if [ -d .git ]; then find .git -name '*.lock' -delete; fi
}

# A claim's command. One of an older claim that holds the lock is ended rather than waited for: its worker has lost the
# project and may be frozen, with a connection that looks alive for ever. One of the same claim is an earlier command
# whose connection broke.
enter_with_fence() {
    lock_until=$(($(date +%s) + 120))
    signal=TERM
    until flock -n 9; do
        [ "$(date +%s)" -lt "$lock_until" ] || die project-busy "$(holder) works in $dir and doesn't end"
        if oust "$signal"; then signal=KILL; fi
        if flock -w 2 9; then break; fi
    done
    newest=$(cat .slipway/fence "$kept/fence" 2>/dev/null | sort -n | tail -n 1)
    case $newest in *[!0-9]*) die internal-error "$dir/.slipway/fence or $kept/fence holds no number" ;; esac
    [ "$fence" -ge "${newest:-0}" ] || die stale-fence "claim $newest has acted on $dir: claim $fence may not any more"
    hold "$fence"
    if [ "$fence" != "$newest" ]; then printf '%s\n' "$fence" | put .slipway/fence 600; fi
}

# CI's job has no claim. What a deployment has begun and not proven is none of its business: it waits, then gives up.
enter_for_ci() {
    lock_until=$(($(date +%s) + ${ci_patience:-300}))
    until flock -w 2 9 && [ ! -d .slipway/served ]; do
        flock -u 9
        [ "$(date +%s)" -lt "$lock_until" ] ||
            die project-busy "a deployment by Slipway is under way here, or has stopped halfway: run this job again once it has ended"
        sleep 1
    done
    hold ci
}

# born PID: when the process began, in the kernel's ticks: the same number may be another process's by now.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# hold CLAIM: notes who has the lock. The bootstrap leads its process group.
hold() {
    printf '%s %s %s\n' "$$" "$(born $$)" "$1" >.slipway/holder.new
    mv -fT .slipway/holder.new .slipway/holder
}
holder() {
    read -r group _ claim <.slipway/holder || :
    case ${claim:-} in
    ci) echo "CI's job, process $group," ;;
    *) echo "process group ${group:-unknown}" ;;
    esac
}

# oust SIGNAL: ends the process group that has the lock, unless its claim is newer than ours.
oust() {
    { read -r group since claim <.slipway/holder; } 2>/dev/null || return 1
    case ${claim:-} in '' | *[!0-9]*) return 1 ;; esac
    if [ "$claim" -gt "$fence" ] || [ "$(born "$group")" != "$since" ]; then return 1; fi
    kill -s "$1" -- "-$group" 2>/dev/null
}

# project_ps OPTIONS: docker's list of all containers of the project; service_ps: without those that are only tried.
project_ps() { docker ps --no-trunc --filter "label=com.docker.compose.project=$slug" "$@"; }
service_ps() { project_ps --filter label=com.docker.compose.oneoff=False "$@"; }

# end_rehearsals: removes what is left of releases that were tried when their script was killed, or the server went off.
end_rehearsals() {
    left=$(project_ps -aq --filter label=com.docker.compose.oneoff=True --filter "name=^/?$slug-rehearsal-")
    if [ -n "$left" ]; then docker rm -fv $left >/dev/null; fi
}

# running: the ids of the project's containers that run.
running() { service_ps -q | sort; }

# env_proof: a digest of what stage env leaves behind. It is told and kept elsewhere, so that it's salted: nobody shall
# guess a password with it.
env_proof() {
    [ -s .slipway/salt ] || head -c 32 /dev/urandom | base64 -w 0 | put .slipway/salt 600
    {
        cat .slipway/salt
        sha256sum .env "$override"
        stat -c %a .env
        readlink infra/.env infra/.env.prod || :
    } 2>/dev/null | sha256sum | cut -c -64
}

# find_keys: sets $login, $home and $keys, the one authorized_keys of all projects of this server.
find_keys() {
    login=${SUDO_USER:-$(id -un)}
    home=$(getent passwd "$login" | cut -d : -f 6)
    keys=$home/.ssh/authorized_keys
}

# lock_keys: that, and locks the file: two that change it at once would each lose the other's line.
lock_keys() {
    find_keys
    if [ ! -d "$home/.ssh" ]; then install -d -m 700 -o "$login" -g "$(id -gn "$login")" "$home/.ssh"; fi
    exec 8<"$home/.ssh"
    flock -w 60 8 || die deploy-key-failed "another process holds $home/.ssh"
}

# key_line: the project's line in authorized_keys, if it has one; after find_keys.
key_line() { grep " slipway:$slug\$" "$keys" 2>/dev/null || :; }

# replace_key [LINE]: that line becomes LINE, or goes. The others stay, and so does the whole file if any step fails.
replace_key() {
    others=$(grep -v " slipway:$slug\$" "$keys") || [ $? -eq 1 ]
    for line in "$others" "${1:-}"; do
        if [ -n "$line" ]; then printf '%s\n' "$line"; fi
    done >"$keys.slipway"
    chmod --reference="$keys" "$keys.slipway"
    chown --reference="$keys" "$keys.slipway"
    sync "$keys.slipway"
    mv -fT "$keys.slipway" "$keys"
}

# our_rules ADDED: the ports of our ufw rules, from what ufw says was added: ours carry the comment slipway:<slug>.
our_rules() { printf '%s\n' "$1" | sed -n "s|^ufw allow \([0-9]*\)/tcp comment 'slipway:$slug'\$|\1|p"; }

# rule_of_others ADDED PORT: whether somebody else has a rule of exactly that port. Ufw would give it our comment, or
# turn it round, if one of ours were added.
rule_of_others() {
    printf '%s\n' "$1" | grep -E "^ufw (allow|deny|reject|limit) $2/tcp( |\$)" | grep -qv " comment 'slipway:$slug'\$"
}

# repo_git ARGUMENTS: git in the project, without hooks and without questions.
repo_git() {
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_TERMINAL_PROMPT=0 git -c safe.directory="$dir" \
        -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.detachedHead=false -c gc.autoDetach=false "$@"
}

# check_out COMMIT: notes it beside git's HEAD, which may be lost with a server's power.
check_out() { repo_git checkout -q --force --detach "$1" && printf '%s\n' "$1" | put .slipway/commit 600; }

# put FILE MODE: stdin becomes FILE. Made in .slipway, on the same file system: a crash leaves no secret elsewhere.
# Chained, since a caller's `||` would let it go on after a step that failed, with half a file.
put() {
    cat >.slipway/put && chmod "$2" .slipway/put && sync .slipway/put && mv -fT .slipway/put "$1" && return
    rm -f .slipway/put
    return 1
}

# images FILE: the images that an .env names.
images() { sed -n "s/^[A-Za-z0-9_]*_IMAGE=[\"']\{0,1\}\([^\"' ]*\).*/\1/p" "$@" 2>/dev/null || :; }

# by_hand FILE: whether it's an env file that somebody has made; ours are links to .env.
by_hand() { [ -f "$1" ] && [ ! -L "$1" ]; }

# restore: the files of the release that served before, as stage clone has noted them.
restore() {
    (umask 022 && check_out "$(cat .slipway/served/commit)") ||
        die checkout-failed "the code that served before couldn't be put back in $dir"
    put .env 600 <.slipway/served/env || die env-write-failed "the .env that served before couldn't be put back in $dir"
    if [ ! -f .slipway/served/override ]; then
        rm -f "$override"
    else
        put "$override" 644 <.slipway/served/override || die env-write-failed "$dir/$override couldn't be put back"
    fi
    for file in .env .env.prod; do
        if [ -f ".slipway/served/$file" ]; then
            put "infra/$file" 600 <".slipway/served/$file" || die env-write-failed "$dir/infra/$file couldn't be put back"
        fi
    done
}

# retire: the release that served before isn't needed to put back any more. Its images are kept as long as it's the one
# before this; its secrets aren't.
retire() {
    before=$(images .slipway/served/env)
    if [ -n "$before" ] && [ "$before" != "$(images .env)" ]; then printf '%s\n' "$before" | put .slipway/previous 600; fi
    rm -rf .slipway/served
}

# registry_login: a DOCKER_CONFIG in memory for this process only, from the credential in .env.
registry_login() {
    # Left by one that was killed.
    rm -rf /dev/shm/slipway."$slug".*
    auth=$(sed -n 's/^SLIPWAY_REGISTRY_AUTH="\([A-Za-z0-9+/=]*\)"$/\1/p' .env)
    [ -n "$auth" ] || return 0
    DOCKER_CONFIG=$(mktemp -d "/dev/shm/slipway.$slug.XXXXXXXX")
    export DOCKER_CONFIG
    printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$registry" "$auth" >"$DOCKER_CONFIG/config.json"
}
registry_logout() {
    if [ -n "${DOCKER_CONFIG:-}" ]; then rm -rf "$DOCKER_CONFIG"; fi
    unset DOCKER_CONFIG
}
