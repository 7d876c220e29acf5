//! Why there is no identity.

/// Why there is no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// This machine has none, which is no fault.
    Nothing(String),
    /// There should have been one.
    Failed(String),
}

/// A credential, or why there is none.
pub type Outcome<T> = Result<T, Obstacle>;

/// [`Obstacle::Nothing`].
pub fn nothing<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Obstacle::Nothing(why.into()))
}

/// [`Obstacle::Failed`].
pub fn failed<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Obstacle::Failed(why.into()))
}
