//! The shell scripts for servers, and of which parts each one is made. Later parts use the functions of earlier ones.
//! Each part's head declares its parameters and the parts it needs; the tests compare that with what callers give.
//! How a script and its data are sent isn't here: that is [`crate::remote::script`]'s job.

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($file:literal)+;)+) => {
        $($(#[$doc])* pub const $name: &[&str] = &[$(include_str!($file)),+];)+

        #[cfg(test)]
        const TABLE: &[(&str, &[&str])] = &[$((stringify!($name), &[$($file),+])),+];
    };
}

scripts! {
    /// Looks at the server before anything is changed.
    PREFLIGHT = "project_files.sh" "front_door.sh" "as_left.sh" "prove.sh" "preflight.sh";
    /// Finds out which stages of an earlier attempt are still done.
    RESUME = "project_files.sh" "room.sh" "containers.sh" "lock.sh" "git.sh" "proofs.sh" "service_report.sh"
        "stability_gate.sh" "resume.sh";
    /// Checks out the commit.
    CLONE = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh" "workflows.sh"
        "proofs.sh" "judged.sh" "own_view.sh" "env_view.sh" "save_release.sh" "judge_tree.sh" "reach.sh" "clone.sh";
    /// Reads what the worker needs to decide about the environment file.
    ENV_READ = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh" "proofs.sh"
        "judged.sh" "own_view.sh" "env_view.sh" "env_read.sh";
    /// Asks compose about the project's own files, with variables that aren't written yet.
    ENV_MODEL = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh"
        "own_view.sh" "env_model.sh";
    /// Writes the environment file and the override file.
    ENV_WRITE = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh" "proofs.sh"
        "judged.sh" "env_write.sh";
    /// Looks where the paths lead that a project mounts.
    LOOK_AT_PATHS = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh" "judged.sh"
        "look_at_paths.sh";
    /// Pulls, rehearses and starts the release.
    COMPOSE = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh" "docker_login.sh"
        "proofs.sh" "service_report.sh" "stability_gate.sh" "start_outcome.sh" "sockets.sh" "rehearse.sh"
        "bots_first.sh" "door_slots.sh" "door_site.sh" "hosts.sh" "one_shots.sh" "next_release.sh" "switch.sh" "replaced.sh" "judged.sh" "ufw_rules.sh"
        "ufw_routes.sh" "reach.sh" "compose.sh";
    /// Opens and closes ports in ufw.
    FIREWALL = "project_files.sh" "front_door.sh" "containers.sh" "lock.sh" "ufw_rules.sh" "ufw_routes.sh" "firewall.sh";
    /// Whether the project listens on a port of the server.
    LISTENING = "project_files.sh" "front_door.sh" "containers.sh" "sockets.sh" "listening.sh";
    /// How the front door is, and what it says of a certificate that doesn't come.
    DOOR_STATE = "project_files.sh" "front_door.sh" "door_state.sh";
    /// Installs CI's deploy key and what it may run.
    DEPLOY_KEY = "project_files.sh" "front_door.sh" "room.sh" "containers.sh" "lock.sh" "git.sh" "workflows.sh" "authorized_keys.sh"
        "as_left.sh" "leak_sweep.sh" "look_after.sh" "deploy_key.sh";
    /// What CI's deploy key runs.
    FORCED_COMMAND = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh"
        "docker_login.sh" "service_report.sh" "stability_gate.sh" "start_outcome.sh" "sockets.sh" "rehearse.sh"
        "bots_first.sh" "door_slots.sh" "door_site.sh" "hosts.sh" "one_shots.sh" "next_release.sh" "switch.sh" "save_release.sh" "restore_files.sh" "take_files.sh" "judged.sh" "forced_command.sh"
        "ci_deploy.sh";
    /// Goes back to the previous release.
    RESTORE_PREVIOUS = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh"
        "restore_files.sh" "docker_login.sh" "service_report.sh" "stability_gate.sh" "sockets.sh" "rehearse.sh"
        "bots_first.sh" "door_slots.sh" "door_site.sh" "hosts.sh" "one_shots.sh" "next_release.sh" "switch.sh" "judged.sh"
        "ufw_rules.sh" "restore_previous.sh";
    /// Looks for leaked secrets after an attempt, and removes images that nobody needs.
    LEAKS_AND_PRUNE = "project_files.sh" "front_door.sh" "containers.sh" "lock.sh" "as_left.sh" "leak_sweep.sh" "look_after.sh"
        "leaks_and_prune.sh";
    /// Lays a layer over the projects' directory that takes all writes, for a plan, which must change nothing.
    OVERLAY = "overlay.sh";
    /// Removes that layer with all that was written.
    OVERLAY_REMOVE = "overlay_remove.sh";
    /// Compares a rehearsed deployment with what runs.
    PLAN = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh" "workflows.sh"
        "ufw_rules.sh" "authorized_keys.sh" "plan.sh";
    /// Whether the project is there.
    REQUIRE_PROJECT = "project_files.sh" "require_project.sh";
    /// Stops the project's containers.
    STOP = "project_files.sh" "require_project.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh"
        "restore_files.sh" "service_report.sh" "judged.sh" "door_slots.sh" "door_site.sh" "one_shots.sh" "stop.sh";
    /// Starts what was stopped.
    START = "project_files.sh" "require_project.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh"
        "restore_files.sh" "service_report.sh" "stability_gate.sh" "start_outcome.sh" "sockets.sh" "rehearse.sh"
        "bots_first.sh" "door_slots.sh" "door_site.sh" "hosts.sh" "one_shots.sh" "next_release.sh" "switch.sh" "judged.sh" "start.sh";
    /// Takes CI's access away.
    UNDEPLOY_ACCESS = "project_files.sh" "lock.sh" "authorized_keys.sh" "undeploy_enter.sh" "undeploy_access.sh";
    /// Closes the project's ports.
    UNDEPLOY_FIREWALL = "project_files.sh" "front_door.sh" "containers.sh" "lock.sh" "ufw_rules.sh" "ufw_routes.sh" "undeploy_enter.sh"
        "firewall.sh";
    /// Removes containers, networks, images and perhaps volumes.
    UNDEPLOY_CONTAINERS = "project_files.sh" "room.sh" "front_door.sh" "compose_call.sh" "containers.sh" "lock.sh" "git.sh"
        "judged.sh" "door_slots.sh" "door_site.sh" "undeploy_enter.sh" "undeploy_containers.sh";
    /// Where a move stands on the server that it takes the project away from.
    DEPARTURE = "project_files.sh" "room.sh" "git.sh" "require_project.sh" "containers.sh" "lock.sh" "departure.sh";
    /// Which machine a server is.
    MACHINE = "machine.sh";
    /// Brings what goes with a project that is moved to the server.
    ARRIVE = "project_files.sh" "lock.sh" "undeploy_enter.sh" "arrive.sh";
    /// A volume as an archive.
    VOLUME_PACK = "project_files.sh" "require_project.sh" "containers.sh" "lock.sh" "volume_pack.sh";
    /// A volume out of an archive.
    VOLUME_UNPACK = "project_files.sh" "room.sh" "containers.sh" "lock.sh" "volume_unpack.sh";
    /// Begins to take back what a move has brought.
    MOVE_AWAY = "project_files.sh" "containers.sh" "lock.sh" "undeploy_enter.sh" "move_away.sh";
    /// What the server has, and what of it is in use.
    SERVER_FACTS = "server_facts.sh";
    /// Removes the project's directory.
    UNDEPLOY_DIRECTORY = "project_files.sh" "lock.sh" "undeploy_enter.sh" "undeploy_directory.sh";
}
