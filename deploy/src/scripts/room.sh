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
build() {
    mount -t tmpfs -o mode=755,size="$1" tmpfs "$room" || return
    for part in /usr /lib /lib32 /lib64 /libx32; do
        if [ -L "$part" ]; then
            cp -P "$part" "$room$part" || return
        elif [ -d "$part" ]; then
            mkdir "$room$part" && mount --bind "$part" "$room$part" && mount -o remount,bind,ro,nosuid "$room$part" || return
        fi
    done
    mkdir -p "$room$dir" && mount --bind "$dir" "$room$dir" && mount -o remount,bind,nosuid,nodev "$room$dir"
}
no_room() {
    echo "slipway: the project files can not be kept apart from those of the server" >&2
    exit 1
}
'
