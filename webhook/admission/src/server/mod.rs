//! The two endpoints that the API server calls, over HTTPS.

pub mod app;
pub mod deadline;
pub mod endpoint;
