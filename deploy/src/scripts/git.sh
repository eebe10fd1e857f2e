# After project_files.sh, room.sh. How a commit is checked out, and what isn't left in a repository.

# check_out COMMIT: writes its files over those that are there, then notes it, beside git's HEAD as well, which may be lost
# with a server's power. Git looks for links before it writes, but a container may put one there in between: it works in
# the room, where it writes to nothing but the project's tree, and not to what git and Slipway keep there.
check_out() {
    note_rewritten && in_room "$git_room" "$1" && repo_git update-ref --no-deref HEAD "$1" &&
        put .slipway/commit 600 printf '%s\n' "$1"
}

# note_rewritten: what isn't as the last checkout left it is written anew by the next one. Whoever has it mounted has the file
# of before, or has read it, and is made anew: .slipway/rewritten has a line for each, a word that's new each time and
# the name; `.` stands for all, where git doesn't know, or for more than can be told.
note_rewritten() {
    [ -f .slipway/commit ] || return 0
    read -r was <.slipway/commit || :
    rewritten=.
    if [ -f .git/index ]; then
        rewritten=$({
            repo_git diff --name-only -z --no-ext-diff --no-textconv "$was" -- 2>/dev/null || printf '.\0'
        } | tr '\n\0' '\001\n' | head -n 101)
    fi
    [ -n "$rewritten" ] || return 0
    read -r word </proc/sys/kernel/random/uuid
    {
        printf '%s\n' "$rewritten" | sed "s/^/$word /"
        if [ -f .slipway/rewritten ]; then cat .slipway/rewritten; fi
    } | awk -v "word=$word" '!known[substr($0, 38)]++ { line[++names] = $0 }
        END { if (names > 100) print word, "."; else for (n = 1; n <= names; n++) print line[n] }' |
        put .slipway/rewritten 600
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
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C GIT_CONFIG_NOSYSTEM=1 \
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_INDEX_FILE="/$index/index" \
    chroot "$room" git -C "$dir" -c safe.directory="$dir" -c core.hooksPath=/dev/null -c core.fsmonitor=false \
    read-tree --reset -u "$commit" || exit
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
