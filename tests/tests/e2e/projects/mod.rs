//! Projects of every kind on one server through the real engine: what each step of their lives leaves on the server and
//! what serves meanwhile (`life`), and what a deployment takes from, leaves in and clears out of its surroundings
//! (`upkeep`), and what it survives when they fail (`faults`). Events and logs are judged elsewhere.

mod faults;
mod life;
mod server;
mod upkeep;
