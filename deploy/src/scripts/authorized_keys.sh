# Parameters: slug; after project_files.sh. The project's line in the authorized_keys of the SSH user.

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

# replace_key LINE: that line becomes LINE, or goes if LINE is empty. The others stay, and so does
# the whole file if any step fails.
replace_key() {
    others=$(grep -v " slipway:$slug\$" "$keys") || [ $? -eq 1 ]
    for line in "$others" "$1"; do
        if [ -n "$line" ]; then printf '%s\n' "$line"; fi
    done >"$keys.slipway"
    chmod --reference="$keys" "$keys.slipway"
    chown --reference="$keys" "$keys.slipway"
    sync "$keys.slipway"
    mv -fT "$keys.slipway" "$keys"
}

# remove_access: takes the project's line and the command behind it away; tells what was there.
remove_access() {
    lock_keys
    if [ -n "$(key_line)" ]; then
        replace_key ""
        tell changed key
    fi
    if [ -e .slipway/ci-deploy ]; then
        rm -f .slipway/ci-deploy
        tell changed command
    fi
    remove_login
}

# remove_login: takes away what CI's job pulls with.
remove_login() {
    if [ -e "$login_file" ]; then tell changed login; fi
    rm -f "$login_file" "$login_file.new"
}
