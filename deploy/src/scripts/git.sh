# After project_files.sh. How git is called.

# repo_git ARGUMENTS: git in the project, without hooks and questions, and without the server's configuration but for a
# fetch, which may need a proxy ($git_home): a filter that is set up there would be run on what the repository names.
repo_git() {
    set -- git -c safe.directory="$dir" -c core.hooksPath=/dev/null -c core.fsmonitor=false \
        -c advice.detachedHead=false -c gc.autoDetach=false "$@"
    if [ -n "${git_confined:-}" ]; then set -- unshare --mount -- sh -euc "$git_confines" confined "$dir" "$@"; fi
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_TERMINAL_PROMPT=0 HOME="${git_home:-/nonexistent}" \
        XDG_CONFIG_HOME="${git_home:-/nonexistent}/.config" GIT_CONFIG_NOSYSTEM="${git_alone:-1}" "$@"
}

# check_out COMMIT: notes it beside git's HEAD, which may be lost with a server's power. Git looks whether a folder is a
# link before it writes below it: a container that may write there could make one in between.
check_out() {
    git_confined=
    if containers_write_here; then
        git_confined=yes
        if ! unshare --mount true 2>/dev/null; then
            echo "warning: git's writes can't be kept inside $dir, where a container may write at the same time" >&2
            git_confined=
        fi
    fi
    repo_git checkout -q --force --detach "$1" || return 1
    git_confined=
    printf '%s\n' "$1" | put .slipway/commit 600
}

# containers_write_here: whether a container of the project has a folder of it in which it may write.
containers_write_here() {
    ids=$(docker ps -aq --filter "label=com.docker.compose.project=$slug")
    [ -n "$ids" ] || return 1
    docker inspect --format '{{range .Mounts}}{{if .RW}}{{println .Type .Source}}{{end}}{{end}}' $ids |
        grep -qF "bind $dir"
}

# In a mount namespace of its own: nothing can be written but the project, without .slipway.
git_confines='
dir=$1
shift
mount --bind "$dir" "$dir"
mount --bind "$dir/.slipway" "$dir/.slipway"
mount -o remount,bind,ro "$dir/.slipway"
cut -d " " -f 5 /proc/self/mountinfo | while read -r place; do
    case $place/ in "$dir"/*) continue ;; esac
    mount -o remount,bind,ro "$place" 2>/dev/null || :
done
if [ -w "${dir%/*}" ]; then exit 9; fi
exec "$@"'

# disarm_git: whoever could write into .git had git run programs as root (a filter, a hook) or read others' repositories.
# Settings that a clone doesn't have go, all of them; one with links in it is made anew by the next clone. Hooks aren't
# run, and people link them.
disarm_git() {
    if [ -L .git ] || [ -n "$(find .git -path .git/hooks -prune -o -type l -print -quit)" ]; then
        echo "warning: $dir/.git holds symbolic links and is removed" >&2
        rm -rf .git
        return 0
    fi
    rm -rf .git/commondir .git/objects/info/alternates .git/objects/info/http-alternates .git/info/attributes \
        .git/info/grafts .git/config.worktree
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
harmless_settings='^(|core\.(repositoryformatversion|filemode|bare|logallrefupdates)|remote\.origin\.(url|fetch)|branch\..*\.(remote|merge)|user\.(name|email))$'
