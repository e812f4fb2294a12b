//! The manyhands engine.
