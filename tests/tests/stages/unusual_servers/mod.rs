//! Servers as they really are: sshd with few sessions or another program in the place of ours, other login shells, other
//! places for keys and plugins, a confined Docker, a firewall that judges what Docker publishes, a clock that is off, and
//! networks without IPv4. Each works, or the error names the very cause.

mod logins;
mod unfit;
mod whole;
