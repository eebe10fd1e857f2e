# After project_files.sh. How git is called.

# repo_git ARGUMENTS: git in the project, without hooks and without questions.
repo_git() {
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_TERMINAL_PROMPT=0 git -c safe.directory="$dir" \
        -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.detachedHead=false -c gc.autoDetach=false "$@"
}

# check_out COMMIT: notes it beside git's HEAD, which may be lost with a server's power.
check_out() { repo_git checkout -q --force --detach "$1" && printf '%s\n' "$1" | put .slipway/commit 600; }
