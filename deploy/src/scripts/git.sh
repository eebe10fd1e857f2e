# After project_files.sh, room.sh. How git is called.

# repo_git ARGUMENTS: git in the project, without hooks and without questions.
repo_git() {
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_TERMINAL_PROMPT=0 git -c safe.directory="$dir" \
        -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.detachedHead=false -c gc.autoDetach=false "$@"
}

# check_out COMMIT: writes its files over those that are there, then notes it, beside git's HEAD as well, which may be lost
# with a server's power. Git looks for links before it writes, but a container may put one there in between: it works in
# the room, where it writes to nothing but the project's tree, and not to what git and Slipway keep there.
check_out() {
    in_room "$git_room" "$1" && repo_git update-ref --no-deref HEAD "$1" && printf '%s\n' "$1" | put .slipway/commit 600
}
git_room='
commit=$1
furnish() {
    cd "$dir" && build 256m && mkdir "$room/dev" && : >"$room/dev/null" && mount --bind /dev/null "$room/dev/null" || return
    mount --bind .git "$room$dir/.git" && mount -o remount,bind,ro,nosuid,nodev "$room$dir/.git" || return
    mount -t tmpfs -o size=4k tmpfs "$room$dir/.slipway" || return
    for part in .env infra/.env.prod infra/compose.slipway.yml; do
        if [ -f "$part" ] && [ ! -L "$part" ]; then
            mount --bind "$part" "$room$dir/$part" && mount -o remount,bind,ro,nosuid,nodev "$room$dir/$part" || return
        fi
    done
    if [ -f .git/index ]; then cp .git/index "$room/index"; fi
}
furnish || no_room
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C GIT_CONFIG_NOSYSTEM=1 \
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_INDEX_FILE=/index \
    chroot "$room" git -C "$dir" -c safe.directory="$dir" -c core.hooksPath=/dev/null -c core.fsmonitor=false \
    read-tree --reset -u "$commit" || exit
cp "$room/index" .git/index.lock && sync .git/index.lock && mv -fT .git/index.lock .git/index
'
