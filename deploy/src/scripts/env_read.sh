# Parameters: purpose recorded by_commit asks_docker; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, lock.sh, git.sh, proofs.sh, judged.sh, own_view.sh, env_view.sh. Tells what the worker needs to decide about
# .env and the override file.
enter
if [ "$purpose" = env ]; then mark env; fi
tell_env
