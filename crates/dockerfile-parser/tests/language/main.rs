//! The language as a whole, through the public interface.

mod diagnostics;
mod golden;
mod properties;
mod syntax;
