//! What everything that is fetched needs.

use std::fmt;

use ebiko_transport::Transport;

use crate::ssh::SshConnector;

/// The network, and whether the build shall stop.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// The network.
    pub transport: &'a Transport,
    /// Asked often; what is under way ends with an error soon after it says so.
    pub is_interrupted: &'a (dyn Fn() -> bool + Sync),
    /// The way to repositories over SSH, if there is one.
    pub ssh: Option<&'a dyn SshConnector>,
}

impl fmt::Debug for Network<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("transport", &self.transport).finish_non_exhaustive()
    }
}
