# Parameters: env sealed; after project_files.sh, lock.sh, undeploy_enter.sh. What goes with a project that is moved
# here: a new deployment begins with it.
enter_ours
mkdir -p "$kept"
# Of data that an earlier stay has left.
if [ -f "$kept/env" ] && [ ! -f "$kept/env.before" ] && [ -f "$kept/data" ]; then put "$kept/env.before" 600 <"$kept/env"; fi
printf '%s' "$sealed" | base64 -d | put .slipway/sealed 600
if [ ! -f .env ]; then printf '%s' "$env" | base64 -d | put "$kept/env" 600; fi
