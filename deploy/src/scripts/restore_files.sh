# After project_files.sh, git.sh. Writes the files of the previous release again.

# restore_files: the code, .env, overrides and moved tags of the previous release, as save_release has saved them.
restore_files() {
    if [ ! -f .slipway/served/by-ci ]; then
        (umask 022 && check_out "$(cat .slipway/served/commit)") ||
            die checkout-failed "the code that served before couldn't be put back in $dir"
    fi
    # As a version before may have saved it.
    without_login <.slipway/served/env >.slipway/served/env.new && mv -f .slipway/served/env.new .slipway/served/env
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
    for file in judged_env judged checks; do
        if [ ! -f ".slipway/served/$file" ]; then
            rm -f ".slipway/$file"
        else
            put ".slipway/$file" 600 <".slipway/served/$file" || die env-write-failed "$dir/.slipway/$file couldn't be put back"
        fi
    done
    model=
    if [ -f .slipway/served/prod_link ]; then point_at_env infra/.env.prod; fi
    # CI pulls `latest` again and again: the image that ran under that name has lost it.
    if [ -f .slipway/served/tags ]; then
        while read -r id tag; do
            docker tag "$id" "$tag" || echo "warning: image $id, which ran as $tag, is gone" >&2
        done <.slipway/served/tags
    fi
}
