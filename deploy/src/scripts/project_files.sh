# Parameters: root slug. Where a project lies on disk, and how its files are written.
dir=$root/$slug
base=infra/compose.base.yml
prod=infra/compose.prod.yml
override=infra/compose.slipway.yml
# What an undeployment leaves: the number of its claim and, as long as there are volumes, the settings that their data
# need.
kept=$root/.slipway-kept/$slug
# What CI's job pulls images with: for root alone, and out of reach of the project, whose compose files may read what
# is beside them.
login_file=/etc/slipway/registry/$slug

# without_login: an .env without the credential that versions before kept in it.
without_login() { sed '/^\(# before \)\{0,1\}SLIPWAY_REGISTRY_AUTH=/d'; }

# put FILE MODE: stdin becomes FILE. Made in .slipway, on the same file system: a crash leaves no secret elsewhere.
# Chained, since a caller's `||` would let it go on after a step that failed, with half a file.
put() {
    cat >.slipway/put && chmod "$2" .slipway/put && sync .slipway/put && mv -fT .slipway/put "$1" && return
    rm -f .slipway/put
    return 1
}

# by_hand FILE: whether it's an env file that isn't a link to .env. In .env.prod, nothing but what somebody has put there
# is of any weight.
by_hand() { [ -f "$1" ] && [ ! -L "$1" ]; }

# point_at_env FILE: makes it a link to .env.
point_at_env() {
    ln -sfn ../.env .slipway/link
    mv -fT .slipway/link "$1"
}

# images FILE: the images that an .env names.
images() { sed -n "s/^[A-Za-z0-9_]*_IMAGE=[\"']\{0,1\}\([^\"' ]*\).*/\1/p" "$@" 2>/dev/null || :; }
