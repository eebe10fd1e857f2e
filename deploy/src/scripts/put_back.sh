# Parameters: registry patience; after project.sh and gate.sh. Puts the release back that served before, and waits until
# it is stable. Its images are still here; the login is for those that somebody has removed.
enter
if [ ! -f .slipway/served/commit ]; then exit 0; fi
commit=$(cat .slipway/served/commit)
tell served "$commit"
(umask 022 && repo_git checkout -q --force --detach "$commit")
put .env 600 <.slipway/served/env
if [ -f .slipway/served/override ]; then put "$override" 644 <.slipway/served/override; else rm -f "$override"; fi
cleanup() { registry_logout; }
registry_login
project_compose up -d --no-build --remove-orphans >&2
registry_logout
gate
[ "$answer" = ok ] || exit 4
rm -rf .slipway/served
