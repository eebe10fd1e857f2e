# After project_files.sh, lock.sh, authorized_keys.sh, undeploy_enter.sh. From here on CI can't start the project any
# more.
enter_ours
remove_access
