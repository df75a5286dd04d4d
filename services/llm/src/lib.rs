//! attune-llm
