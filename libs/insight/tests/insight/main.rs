//! Estimators against simulated worlds whose truth is known.

#![allow(clippy::unwrap_used, reason = "a world that cannot be made is a failed run")]

mod calibration;
mod content;
mod drift;
mod effect;
mod join;
mod partition;
mod ranking;
mod regret;
mod visitors;
mod world;
