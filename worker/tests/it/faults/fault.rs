//! The faults of broker, network and database. How each is brought about and mended: `world`.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// An operator deletes the queue; the broker cancels its consumers.
    QueueDeleted,
    /// An operator closes every connection.
    ConnectionsClosed,
    /// The broker closes the consumer's channel, since an acknowledgement is overdue.
    AckOverdue,
    /// The broker is shut down, and started again.
    BrokerTerminated,
    /// The broker dies, and is started again.
    BrokerKilled,
    /// The broker freezes: everything stays open, and nothing answers.
    BrokerFrozen,
    /// A firewall forgets the connections: nothing comes through them any more, and nobody says so.
    ConnectionsForgotten,
    /// No packet comes through for a while.
    NetworkCut,
    /// The broker is out of memory and takes no messages.
    MemoryAlarm,
    /// The broker is out of disk space and takes no messages.
    DiskAlarm,
    /// The broker refuses the login for a while.
    LoginRefused,
    /// The database freezes.
    DatabaseFrozen,
    /// The database is restarted.
    DatabaseRestarted,
}
