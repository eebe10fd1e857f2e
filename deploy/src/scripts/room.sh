# Parameters: slug; after project_files.sh. A project's files are a stranger's, and its containers may put links and
# devices wherever they may write. What reads or writes them with root's rights does so in a room: a mount namespace and
# a root directory with nothing in them but programs and the project's directory, so that no link leads out of it.

# in_room FURNISH COMMAND…: a shell in that namespace, with the room's functions and those of FURNISH, which has to end in
# $room. Its arguments begin with the project's directory.
in_room() {
    how=$1
    shift
    unshare --mount --net --propagation private sh -c "$room$how" room "$dir" "$@" </dev/null
}
room='
dir=$1 room=/dev/shm
shift
mounts=
# What is laid is mounted by hang, all of it at once.
lay() {
    as_entry "$1"
    from=$entry
    as_entry "$room$4"
    mounts="$mounts$from $entry $2 $3
"
}
as_entry() {
    entry=$1
    while [ "$entry" != "${entry#* }" ]; do entry="${entry%% *}\\040${entry#* }"; done
}
hang() { printf "%s" "$mounts" >"$room/mounts" && mount -a -T "$room/mounts" >&2; }
build() {
    mount -t tmpfs -o mode=755,size="$1" tmpfs "$room" || return
    set -- "$room$dir"
    links=
    for part in /usr /lib /lib32 /lib64 /libx32; do
        if [ -L "$part" ]; then
            links="$links $part"
        elif [ -d "$part" ]; then
            set -- "$@" "$room$part"
            lay "$part" none bind,ro,nosuid "$part"
        fi
    done
    mkdir -p "$@" && { [ -z "$links" ] || cp -P $links "$room"; } && lay "$dir" none bind,nosuid,nodev "$dir"
}
no_room() {
    echo "slipway: the project files can not be kept apart from those of the server" >&2
    exit 1
}
'
