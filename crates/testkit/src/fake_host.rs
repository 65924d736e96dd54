//! Placeholder until the room is furnished.
/// x
pub struct Bench;
/// x
pub struct FakeHost;
/// x
pub struct HostKind;
