# After project_files.sh, room.sh. How a commit is checked out, and what isn't left in a repository.

# check_out COMMIT: writes its files over those that are there, then notes it, beside git's HEAD as well, which may be lost
# with a server's power. Git looks for links before it writes, but a container may put one there in between: it works in
# the room, where it writes to nothing but the project's tree, and not to what git and Slipway keep there.
check_out() {
    in_room "$git_room" "$1" && repo_git update-ref --no-deref HEAD "$1" && put .slipway/commit 600 printf '%s\n' "$1"
}
git_room='
commit=$1
furnish() {
    cd "$dir" && build 256m && mkdir "$room/dev" && : >"$room/dev/null" || return
    lay /dev/null none bind /dev/null
    lay "$dir/.git" none bind,ro,nosuid,nodev "$dir/.git"
    lay tmpfs tmpfs size=4k "$dir/.slipway"
    for part in .env infra/.env.prod infra/compose.slipway.yml; do
        if [ -f "$part" ] && [ ! -L "$part" ]; then lay "$dir/$part" none bind,ro,nosuid,nodev "$dir/$part"; fi
    done
    # No container that has put a link into the tree knows where the index is.
    read -r index </proc/sys/kernel/random/uuid
    hang && mkdir "$room/$index" && if [ -f .git/index ]; then cp .git/index "$room/$index/index"; fi
}
furnish || no_room
in_it() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C GIT_CONFIG_NOSYSTEM=1 \
        GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_INDEX_FILE="/$index/index" chroot "$room" "$@"
}
git_in_it() { in_it git -C "$dir" -c safe.directory="$dir" -c core.hooksPath=/dev/null -c core.fsmonitor=false "$@"; }
# What was changed since this commit was checked out gets its content back in its place, and no new file: whoever has it
# mounted goes on with it.
was=
if [ -f .slipway/commit ]; then read -r was <.slipway/commit || :; fi
if [ "$was" = "$commit" ]; then
    # Where git was made anew, it knows no file yet.
    [ -f "$room/$index/index" ] || git_in_it read-tree "$commit"
    git_in_it update-index -q --refresh >/dev/null || :
    git_in_it diff-files -z --diff-filter=M | tr '\''\n\0'\'' '\''\001\n'\'' | while IFS= read -r modes && IFS= read -r file; do
        case $modes in :100644*) mode=644 ;; :100755*) mode=755 ;; *) continue ;; esac
        if [ -f "$file" ] && [ ! -L "$file" ]; then
            # What git cannot tell whole stays, and is written anew below.
            git_in_it cat-file --filters "$commit:$file" >"$room/$index/content" || continue
            in_it dd of="$dir/$file" oflag=nofollow,nonblock bs=64k status=none <"$room/$index/content" &&
                in_it chmod "$mode" "$dir/$file"
        fi
    done
    git_in_it update-index -q --refresh >/dev/null || :
fi
git_in_it read-tree --reset -u "$commit" || exit
cp "$room/$index/index" .git/index.lock && sync .git/index.lock && mv -fT .git/index.lock .git/index
'
# disarm_git: whoever could write into .git had git run programs as root (a filter, a hook) or read others' repositories.
# Settings that a clone doesn't have go, all of them; one with links in it is made anew by the next clone. Hooks aren't
# run, and people link them.
disarm_git() {
    if [ -L .git ]; then
        found=linked
    else
        found=$(find .git -path .git/hooks -prune -o \( -name '*.lock' -o -path '.git/objects/*' -name 'tmp_*' \) \
            -printf 'left\n' -o -type l -printf 'linked\n' -quit)
    fi
    case $found in
    *linked)
        echo "warning: $dir/.git holds symbolic links and is removed" >&2
        rm -rf .git
        return 0
        ;;
    # By a git that was killed: whoever is in here is alone.
    left*) find .git \( -name '*.lock' -o -path '.git/objects/*' -name 'tmp_*' \) -delete ;;
    esac
    for part in commondir objects/info/alternates objects/info/http-alternates info/attributes info/grafts config.worktree; do
        if [ -e ".git/$part" ]; then rm -rf ".git/$part"; fi
    done
    if has_plain_settings; then return 0; fi
    # What can't be read is damaged, which clone finds.
    settings=$(git config --file .git/config --no-includes --name-only --list 2>/dev/null || :)
    case $(printf '%s\n' "$settings" | grep -vE "$harmless_settings" || :) in
    '') ;;
    *)
        echo "warning: $dir/.git/config held settings that a deployment doesn't use, and is written anew" >&2
        printf '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n' | put .git/config 644
        ;;
    esac
}

# has_plain_settings: whether there are no others than git itself writes, each on a line of its own.
has_plain_settings() {
    [ -f .git/config ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        case ${line#'	'} in
        '[core]' | '[remote "origin"]' | 'repositoryformatversion = 0' | 'filemode = true' | 'bare = false' | 'logallrefupdates = true') ;;
        'fetch = +refs/heads/*:refs/remotes/origin/*') ;;
        'url = '*[!A-Za-z0-9:/._-]*) return 1 ;;
        'url = http'*) ;;
        *) return 1 ;;
        esac
    done <.git/config
}
harmless_settings='^(|core\.(repositoryformatversion|filemode|bare|logallrefupdates)|remote\.origin\.(url|fetch)|branch\..*\.(remote|merge)|user\.(name|email))$'
