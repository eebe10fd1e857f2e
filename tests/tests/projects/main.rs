//! Projects of every kind on one server through the real engine: what each step of their lives leaves on the server and
//! what serves meanwhile (`life`), and what a deployment takes from, leaves in and clears out of its surroundings
//! (`upkeep`). Events and logs are judged elsewhere.

mod life;
mod server;
mod upkeep;
