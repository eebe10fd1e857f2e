# After project_files.sh, git.sh. What the commit that is checked out has for CI.

# tell_workflows: the workflows that name DEPLOY_PORT, of at most 32 and 64 KiB each; files only, no links. They are the
# commit's, whatever lies in the directory.
tell_workflows() {
    repo_git ls-tree HEAD .github/workflows/ | head -n 32 | while read -r mode _ object path; do
        case $mode in 100644 | 100755) ;; *) continue ;; esac
        case $path in *[!A-Za-z0-9._/-]*) continue ;; *.yml | *.yaml) ;; *) continue ;; esac
        [ "$(repo_git cat-file -s "$object")" -le 65536 ] || continue
        if repo_git cat-file blob "$object" | grep -qi DEPLOY_PORT; then
            tell workflow "$path $(repo_git cat-file blob "$object" | base64 -w 0)"
        fi
    done
}
