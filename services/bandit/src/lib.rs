//! attune-bandit
