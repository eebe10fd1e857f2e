# After project_files.sh. Refuses a project that isn't there.
[ -d "$dir/.slipway" ] || die not-deployed "there is no project in $dir"
