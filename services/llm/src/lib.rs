//! Puts the factors behind a recommendation into a sentence.

pub mod factors;
pub mod grounding;
pub mod screen;
pub mod template;
