/// What a failure detector (BFD) says of the path to a peer, for those who decide what follows
/// from it (RFC 5882 §3.2, §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Liveness {
    /// The detector runs, and has not heard of the peer's yet.
    #[default]
    Unknown,
    /// Packets pass in both directions.
    Up,
    /// They did, and don't any more.
    Failed,
    /// One of the two sides switched its detector off on purpose (AdminDown): the path may be as
    /// good as ever, and nothing must follow.
    Unused,
}
