//! What the tests share.

pub mod textproto;
