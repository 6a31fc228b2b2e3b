//! `trireme up --demo`: a web application of two tiers whose image is made from this very program.
//!
//! [`image`] makes the image, [`deploy`] applies the manifests through the API and waits for an answer, and [`app`] is
//! what runs in the containers: `web` shows a page and asks `counter`, by the name of its Service, for the count.

pub mod app;
mod deploy;
mod image;

pub use deploy::deploy;
pub use image::build;
