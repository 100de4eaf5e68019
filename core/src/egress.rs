//! Outgoing connections: which addresses may be dialled.
