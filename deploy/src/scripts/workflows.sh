# After project_files.sh, git.sh. What the commit that is checked out has for CI.

# tell_workflows: the workflows that name DEPLOY_PORT, of at most 32 and 64 KiB each; files only, no links. They are the
# commit's, whatever lies in the directory.
tell_workflows() {
    listed=$(repo_git ls-tree -l HEAD .github/workflows/ | head -n 32)
    set --
    while read -r mode _ _ size path; do
        case $mode in 100644 | 100755) ;; *) continue ;; esac
        case $path in *[!A-Za-z0-9._/-]*) continue ;; *.yml | *.yaml) ;; *) continue ;; esac
        if [ "$size" -le 65536 ]; then set -- "$@" "$path"; fi
    done <<END
$listed
END
    [ $# -gt 0 ] || return 0
    for path in $(repo_git --literal-pathspecs grep -ali DEPLOY_PORT HEAD -- "$@"); do
        tell workflow "${path#HEAD:} $(repo_git cat-file blob "$path" | base64 -w 0)"
    done
}
