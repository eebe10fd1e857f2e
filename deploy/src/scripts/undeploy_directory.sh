# After project_files.sh, lock.sh, undeploy_enter.sh. Moves the directory away in one step and removes it then: what is
# left of it after a crash isn't taken for a project.
gone=$root/.slipway-gone.$slug
if [ -e "$gone" ]; then
    rm -rf "$gone"
    tell change changed
fi
[ -e "$dir" ] || exit 0
enter_ours
rm -rf /dev/shm/slipway."$slug".*
if [ -e .git ] || [ -e .env ]; then tell change changed; fi
# The slug is free, unless data are kept under it.
[ -f "$kept/data" ] || rm -f "$kept/owner"
# An older claim must not find a project that nobody has acted on.
mkdir -p "$kept"
# One that was written there already by the same claim is there still.
if [ -f .slipway/fence ]; then put "$kept/fence" 600 <.slipway/fence; fi
mv -T "$dir" "$gone"
# Whoever waits for the lock still waits, until there is nothing left to work with.
rm -rf "$gone"
