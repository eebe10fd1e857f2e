//! Behind a server's front door no request is dropped, whatever happens to the project that answers it, on a real server
//! and without a broker or a worker: seen by those who ask all the while.

mod bad_releases;
mod certificates;
mod firewall;
mod full_disk;
mod kept;
mod killed_doors;
mod killed_switches;
mod leaving;
mod moves;
mod names;
mod put_back;
mod reach;
mod redeployments;
pub mod scene;
mod slots;
mod survival;
mod takeover;
