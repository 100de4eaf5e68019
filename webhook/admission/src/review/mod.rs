//! AdmissionReview in: what is asked, about which workload, and which of its images are new.

pub mod images;
pub mod kind;
pub mod owner;
pub mod request;
