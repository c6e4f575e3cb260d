//! The C interface of the data plane.
