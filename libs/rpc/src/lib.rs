//! attune-rpc
