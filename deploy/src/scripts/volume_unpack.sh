# Parameters: volume streams; after project_files.sh, room.sh, containers.sh, lock.sh. An archive on stdin becomes the content of a
# volume. It's a stranger's: it's unpacked in a room that has nothing but programs and the volume, so that whatever names and
# links it brings, nothing else is written.
[ "$streams" = 1 ] || die internal-error "the archive would be taken for the end of the worker"
enter
# What a worker has started that was killed before it could prove it.
left=$(any_running)
if [ -n "$left" ]; then docker stop $left >&2 || die copy-failed "something of $slug runs here, and can't be stopped"; fi
label=com.docker.compose.project
case $volume in
"${slug}_"*) ;;
*) die copy-failed "$volume isn't the name of a volume of $slug" ;;
esac
if ! docker volume inspect "$volume" >/dev/null 2>&1; then
    docker volume create --label "$label=$slug" --label "com.docker.compose.volume=${volume#"${slug}_"}" "$volume" >/dev/null
fi
[ "$(docker volume inspect --format "{{index .Labels \"$label\"}}" "$volume")" = "$slug" ] ||
    die copy-failed "$volume is another project's"
[ "$(docker volume inspect --format '{{.Driver}} {{len .Options}}' "$volume")" = "local 0" ] ||
    die copy-failed "$volume isn't on the server's own disk"
place=$(docker volume inspect --format '{{.Mountpoint}}' "$volume")
mkdir -p "$kept"
put "$kept/copying" 600 </dev/null
unpack='
build 1m && hang && chroot "$room" /usr/bin/find "$dir" -mindepth 1 -delete &&
    chroot "$room" /usr/bin/tar --extract --directory="$dir" --numeric-owner --preserve-permissions --delay-directory-restore || exit 4
[ -z "$(chroot "$room" /usr/bin/find "$dir" ! -type f ! -type d ! -type l ! -type p ! -type s -print -quit)" ] || exit 5
'
unpacked=0
unshare --mount --net --propagation private sh -c "$room$unpack" room "$place" <&3 2>.slipway/unpack || unpacked=$?
case $unpacked in
0) ;;
5) die copy-failed "the archive of $volume holds devices" ;;
*) die copy-failed "tar can't write $volume: $(tail -n 1 .slipway/unpack | cut -c 1-200)" ;;
esac
tell unpacked yes
