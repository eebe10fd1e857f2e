//! From a `ProjectReady` in RabbitMQ to a project that answers: real workers as processes, a real server, both
//! generations of the template. What goes wrong on the way and is put right stands in `failures` and `drain`, workers
//! that die in `killed`, by table in a soak; parts that are cut are not here.

mod drain;
mod drained;
mod environment;
mod events;
mod failures;
mod generations;
mod held_stage;
mod killed;
mod leaks;
mod lifecycle;
mod moves;
mod placement;
mod pushes;
mod scene;
mod zombie;
