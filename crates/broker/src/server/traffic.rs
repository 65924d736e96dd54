//! What the sockets of a loop have done.

/// Counts of one loop, or of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes read from sockets.
    pub bytes_received: u64,
    /// Bytes written to sockets.
    pub bytes_sent: u64,
    /// Packets read from clients.
    pub packets_received: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Clients let in.
    pub connects: u64,
    /// Connections closed at once because there were as many as may be, together or at their listener.
    pub refused_full: u64,
    /// Connections closed because there were as many from their address as may be.
    pub refused_address: u64,
    /// Clients refused because their user had as many connections as may be.
    pub refused_user: u64,
    /// Times that accepting had to wait because of the connect rate.
    pub rate_pauses: u64,
    /// Times that accepting had to wait because the operating system had no descriptor or memory left.
    pub exhausted: u64,
    /// Connections closed because CONNECT didn't come in time.
    pub connect_timeouts: u64,
    /// Connections closed because of bytes that are no packet.
    pub malformed: u64,
    /// Connections closed because there was no memory for what they were sending.
    pub closed_memory: u64,
    /// Clients that weren't let in.
    pub refused_clients: u64,
}
