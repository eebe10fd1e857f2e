# Parameters: slug; after project_files.sh. The project's line in the authorized_keys of the SSH user.

# find_keys: sets $login, $home and $keys, the one authorized_keys of all projects of this server: where its sshd looks
# first, or empty where it looks nowhere. $usual is where most do.
find_keys() {
    login=${SUDO_USER:-$(id -un)}
    IFS=: read -r _ _ _ _ _ home _ <<END
$(getent passwd "$login")
END
    usual=$(realpath -m "$home/.ssh/authorized_keys")
    sshd_says=$(ask_sshd)
    keys=
    while read -r setting value _; do
        if [ "$setting" = authorizedkeysfile ]; then keys=$value; fi
    done <<END
$sshd_says
END
    case ${keys:=.ssh/authorized_keys} in
    none)
        keys=
        return
        ;;
    .ssh/authorized_keys)
        keys=$usual
        return
        ;;
    *%*) keys=$(printf '%s\n' "$keys" | sed "s|%%|\n|g; s|%h|$home|g; s|%u|$login|g; s|%U|$(id -u "$login")|g; s|\n|%|g") ;;
    esac
    keys=$(cd "$home" && realpath -m "$keys")
}

# reads_keys: whether sshd shows that it reads that file: it knows no other place for keys, and has let this user in.
reads_keys() {
    [ -s "$keys" ] && [ ! -e "$home/.ssh/authorized_keys2" ] || return 1
    for setting in 'authorizedkeysfile [^ ]*\( \.ssh/authorized_keys2\)\{0,1\}' 'authorizedkeyscommand none' 'trustedusercakeys none'; do
        printf '%s\n' "$sshd_says" | grep -qx "$setting" || return 1
    done
}

# ask_sshd: how the sshd that this session came by is configured for this user, as itself says. It may have been started
# with other files and options than the system's.
ask_sshd() {
    pid=$$ sshd=/usr/sbin/sshd
    while [ "$pid" -gt 1 ] && { read -r line <"/proc/$pid/stat"; } 2>/dev/null; do
        title=
        { IFS= read -r title <"/proc/$pid/cmdline"; } 2>/dev/null || :
        case $title in
        'sshd: '*' [listener]'*)
            sshd=${title#sshd: }
            sshd=${sshd%% "[listener]"*}
            break
            ;;
        esac
        set -- ${line##*) }
        pid=$2
    done
    set -- ${SSH_CONNECTION:-127.0.0.1 0 127.0.0.1 22}
    timeout 10 $sshd -T -C "user=$login,host=$1,addr=$1,laddr=$3,lport=$4" 2>/dev/null || :
}

# lock_keys: that, and locks the file: two that change it at once would each lose the other's line.
lock_keys() {
    find_keys
    [ -n "$keys" ] || return 0
    folder=${keys%/*}
    if [ ! -d "$folder" ]; then
        case $folder in
        "$home"/*) install -d -m 700 -o "$login" -g "$(id -gn "$login")" "$folder" ;;
        *) (umask 022 && mkdir -p "$folder") ;;
        esac
    fi
    exec 8<"$folder"
    flock -w 60 8 || die deploy-key-failed "another process holds $folder"
}

# key_line: the project's line in authorized_keys, if it has one; after find_keys.
key_line() { grep " slipway:$slug\$" "${keys:-/dev/null}" 2>/dev/null || :; }

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

# forget_elsewhere: after lock_keys. What was written where sshd looked before, or where it usually does.
forget_elsewhere() {
    found=$keys
    if [ "$usual" != "$keys" ]; then
        keys=$usual
        if [ -n "$(key_line)" ]; then
            replace_key ""
            tell changed key
        fi
    fi
    keys=$found
}

# remove_access: takes the project's line and the command behind it away; tells what was there.
remove_access() {
    lock_keys
    forget_elsewhere
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
