//! Offline evaluation, with its protocol.
