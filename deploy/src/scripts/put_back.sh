# Parameters: registry patience limit first; after project.sh and gate.sh. Puts the release back that served before,
# and waits until it is stable. Its images are still here; the login is for those that somebody has removed.
[ -d "$dir/.slipway" ] || exit 0
enter
end_rehearsals
if [ ! -d .slipway/served ]; then exit 0; fi
if [ ! -f .slipway/served/commit ]; then
    # Nothing served before. The note stays: what is here now isn't worth to be put back either.
    if [ "$first" = stop ]; then
        ids=$(running)
        if [ -n "$ids" ]; then
            docker stop $ids >&2
            tell stopped yes
        fi
    fi
    exit 0
fi
tell served "$(cat .slipway/served/commit)"
restore
cleanup() { registry_logout; }
if [ -f .slipway/served/stopped ]; then
    # Somebody had stopped it, and it stays so.
    registry_login
    project_compose create --no-build --remove-orphans >&2
    registry_logout
    ids=$(running)
    if [ -n "$ids" ]; then docker stop $ids >&2; fi
    : >.slipway/stopped
    tell stopped yes
    tell_all
    rm -rf .slipway/served
    exit 0
fi
# As a stop leaves it that failed.
rm -f .slipway/stopped
if [ -f .slipway/served/running ] && [ "$(running)" = "$(cat .slipway/served/running)" ]; then
    # No container was touched: what was healthy is so, and what wasn't is no matter of ours.
    tell untouched yes
    patience=0
    if [ -n "$(running)" ]; then gate; fi
    rm -rf .slipway/served
    exit 0
fi
registry_login
project_compose up -d --no-build --remove-orphans >&2
registry_logout
gate
[ "$answer" = ok ] || exit 4
rm -rf .slipway/served
