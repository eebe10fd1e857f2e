//! From a `ProjectReady` in RabbitMQ to a project that answers: real workers as processes, a real server, both
//! generations of the template. Killed and cut parts are not here.

mod environment;
mod events;
mod generations;
mod leaks;
mod scene;
