//! A model of posture: pods that run images, a registry that knows who signed what, policies whose keys move, and a clock.
//! Whatever happens, findings say what is true as far as anybody can know, and nothing is written twice.

mod causes;
mod house;
mod identity;
mod quiet;
mod silence;
