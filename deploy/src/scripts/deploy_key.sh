# Parameters: forced key auth workflows_known looks_after needles logins prefix request? report ports comment; after
# project_files.sh, front_door.sh, room.sh, containers.sh, lock.sh, git.sh, workflows.sh, authorized_keys.sh, as_left.sh,
# leak_sweep.sh, look_after.sh. Installs the command that CI may run and, with a key, the one line in authorized_keys that
# may run it. Without a key it tells whether such a line is there; without a command it takes both away. Once all is in its
# place, it looks after what the attempt leaves.
enter
if [ "$workflows_known" = 0 ]; then tell_workflows; fi
# The new release has been verified. The images of the previous one are kept as long as it's the one before this; its
# secrets aren't.
drop_previous() {
    before=$(images .slipway/served/env)
    if [ -n "$before" ] && [ "$before" != "$(images .env)" ]; then put .slipway/previous 600 printf '%s\n' "$before"; fi
    rm -rf .slipway/served
}
drop_previous
if [ -z "$forced" ]; then
    remove_access
    mark key
    tell installed yes
    exit 0
fi
command=$dir/.slipway/ci-deploy
# What CI asks for comes as a variable, which sudo takes away unless told.
if [ -n "${SUDO_USER:-}" ]; then command="sudo -n --preserve-env=SSH_ORIGINAL_COMMAND $command"; fi
options="restrict,command=\"$command\""

if ! printf '%s' "$forced" | base64 -d | cmp -s - .slipway/ci-deploy; then
    printf '%s' "$forced" | put .slipway/ci-deploy 700 base64 -d
    tell changed command
fi

# keep_login: what that command pulls with. Root's alone: as another user, who isn't root, nothing is kept.
keep_login() {
    if [ -z "$auth" ] || [ ! -O / ]; then
        remove_login
        if [ -n "$auth" ]; then tell login refused; fi
        return 0
    fi
    [ -d "${login_file%/*}" ] || mkdir -p "${login_file%/*}"
    chmod 700 "${login_file%/*}"
    if printf '%s' "$auth" | cmp -s - "$login_file"; then return 0; fi
    printf '%s' "$auth" >"$login_file.new"
    sync "$login_file.new"
    mv -fT "$login_file.new" "$login_file"
    tell changed login
}
keep_login
mark key

lock_keys
[ -n "$keys" ] || die deploy-key-failed "sshd reads no file of keys for user $login (AuthorizedKeysFile none): CI's key can't be put there; let pushes_deployed_by be webhook, or give sshd such a file"
forget_elsewhere
# Where it isn't the usual one, the proof that nothing has changed has to look there.
if [ "$keys" != "$home/.ssh/authorized_keys" ]; then
    put .slipway/keys 600 printf '%s\n' "$keys"
elif [ -e .slipway/keys ]; then
    rm -f .slipway/keys
fi
tell keys "$keys"
mine=$(key_line)
tell user "$login"
if [ -z "$key" ]; then
    case $mine in "$options "*) tell key present ;; *) tell installed yes && exit 0 ;; esac
else
    line="$options $(printf '%s' "$key" | base64 -d)"
    if [ "$mine" != "$line" ]; then
        if reads_keys; then tell read_by_sshd yes; fi
        [ -f "$keys" ] || install -m 600 -o "$login" -g "$(id -gn "$login")" /dev/null "$keys"
        replace_key "$line"
        tell changed key
    fi
fi
tell installed yes
if [ "$looks_after" = 1 ]; then
    # Others may need it.
    exec 8>&-
    see_own
    look_after
    tell looked yes
fi
