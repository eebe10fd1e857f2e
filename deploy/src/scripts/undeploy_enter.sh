# After project_files.sh, lock.sh. What all steps of an undeployment begin with.

# enter_ours: into the project's directory, which must be one that a deployment made. One that is gone already is made
# again for the lock's sake: there may be more to undo elsewhere.
enter_ours() {
    [ ! -L "$dir" ] || die directory-not-ours "$dir is a symbolic link"
    if [ -e "$dir" ] && [ ! -d "$dir/.slipway" ]; then
        die directory-not-ours "$dir exists, but no deployment made it"
    fi
    mkdir -p "$dir"
    enter
}
