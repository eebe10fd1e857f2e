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
note_release() (
    umask 077
    saved=$1 by=$2
    if [ -e .slipway/note ]; then rm -rf .slipway/note; fi
    mkdir .slipway/note
    if [ -n "$saved" ] && [ -f .env ]; then
        without_login <.env >.slipway/note/env
        # The real one: see own_view, if that is here at all.
        # shellcheck disable=SC2031
        if [ -f "$override" ]; then cp "$override" .slipway/note/override; fi
        for file in .env .env.prod; do
            if by_hand "infra/$file"; then without_login <"infra/$file" >".slipway/note/$file"; fi
        done
        # As earlier releases of Slipway left it.
        if [ -L infra/.env.prod ]; then : >.slipway/note/prod_link; fi
        set --
        for file in .slipway/judged .slipway/judged_env .slipway/checks; do
            if [ -f "$file" ]; then set -- "$@" "$file"; fi
        done
        [ $# -eq 0 ] || cp "$@" .slipway/note
        running >.slipway/note/running
        [ ! -f .slipway/stopped ] || : >.slipway/note/stopped
        if [ "$by" = ci ]; then
            : >.slipway/note/by-ci
            moving_tags >.slipway/note/tags
        fi
        printf '%s\n' "$saved" >.slipway/note/commit
    fi
    # It must be complete or missing, also after the power was lost: it says what to restore.
    set -- .slipway/note
    for file in .slipway/note/* .slipway/note/.env*; do
        if [ -f "$file" ]; then set -- "$@" "$file"; fi
    done
    sync "$@"
    mv -T .slipway/note .slipway/served
)

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
