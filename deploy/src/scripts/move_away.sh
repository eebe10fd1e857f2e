# After project_files.sh, containers.sh, lock.sh, undeploy_enter.sh. Whether a move has begun to copy data to
# this server, which go with it when it's taken back; and back comes what data of an earlier stay can't be read without.
enter_ours
if [ -f "$kept/copying" ]; then
    tell copying yes
    rm -f "$kept/copying" "$kept/env.before"
elif [ -f "$kept/env.before" ]; then
    mv -fT "$kept/env.before" "$kept/env"
    # Else the undeployment would keep what came with the move.
    rm -f .env
fi
