# After project_files.sh, git.sh. Writes the files of the previous release again.

# restore_files: the code, .env and overrides of the previous release, as stage clone has saved them.
restore_files() {
    (umask 022 && check_out "$(cat .slipway/served/commit)") ||
        die checkout-failed "the code that served before couldn't be put back in $dir"
    put .env 600 <.slipway/served/env || die env-write-failed "the .env that served before couldn't be put back in $dir"
    if [ ! -f .slipway/served/override ]; then
        rm -f "$override"
    else
        put "$override" 644 <.slipway/served/override || die env-write-failed "$dir/$override couldn't be put back"
    fi
    for file in .env .env.prod; do
        if [ -f ".slipway/served/$file" ]; then
            put "infra/$file" 600 <".slipway/served/$file" || die env-write-failed "$dir/infra/$file couldn't be put back"
        fi
    done
    if [ -f .slipway/served/prod_link ]; then point_at_env infra/.env.prod; fi
}
