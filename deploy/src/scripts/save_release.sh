# After project_files.sh, containers.sh. Saves the release that serves, until the next one has proven itself.

# save_release COMMIT BY: what has to be put back if the next release fails; restore_files writes it again. Without a
# commit, nothing served. What an earlier attempt has saved stays. By `ci`: no code is changed, and the next job of CI may
# go on where this one is killed.
save_release() {
    if [ -d .slipway/served ]; then
        if [ "$2" != ci ]; then rm -f .slipway/served/by-ci; fi
    else
        note_release "$@"
    fi
    # What comes now may not be started before it was judged.
    [ -f .slipway/judged ] || : >.slipway/judged
}
note_release() {
    rm -rf .slipway/note
    mkdir -m 700 .slipway/note
    if [ -n "$1" ] && [ -f .env ]; then
        without_login <.env >.slipway/note/env
        # The real one: see own_view, if that is here at all.
        # shellcheck disable=SC2031
        if [ -f "$override" ]; then install -m 600 "$override" .slipway/note/override; fi
        for file in .env .env.prod; do
            if by_hand "infra/$file"; then without_login <"infra/$file" >".slipway/note/$file"; fi
        done
        # As earlier releases of Slipway left it.
        if [ -L infra/.env.prod ]; then : >.slipway/note/prod_link; fi
        for file in judged judged_env checks; do
            if [ -f ".slipway/$file" ]; then install -m 600 ".slipway/$file" ".slipway/note/$file"; fi
        done
        running >.slipway/note/running
        [ ! -f .slipway/stopped ] || : >.slipway/note/stopped
        if [ "$2" = ci ]; then
            : >.slipway/note/by-ci
            moving_tags >.slipway/note/tags
        fi
        printf '%s\n' "$1" >.slipway/note/commit
    fi
    # It must be complete or missing, also after the power was lost: it says what to restore.
    find .slipway/note -exec sync {} +
    mv -T .slipway/note .slipway/served
}

# moving_tags: the images that run under a tag of .env which a pull can move, with the tag.
moving_tags() {
    ids=$(containers)
    [ -n "$ids" ] || return 0
    named=$(images .env)
    docker inspect --format '{{.Image}} {{.Config.Image}}' $ids | sort -u | while read -r id tag; do
        case $tag in *@*) continue ;; esac
        if printf '%s\n' "$named" | grep -qxF -e "$tag"; then printf '%s %s\n' "$id" "$tag"; fi
    done
}
