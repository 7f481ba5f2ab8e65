//! The stream from one server to another: numbered, sent again until acknowledged, taken once and in order.
