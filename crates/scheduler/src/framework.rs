//! How plugins take part in a decision (KEP-624).

mod event;
mod plugin;
mod points;
mod profile;
mod state;
mod status;

pub use event::{Actions, Change, ClusterEvent, Hint, Interest, Object, Source};
pub use plugin::{
    Context, Effect, Gang, MAX_SCORE, Nomination, Permission, Plugin, PostFilter, PreFilter, PreScore, Reach,
    Rejections, Work,
};
pub use points::{Point, Points};
pub use profile::{Enabled, Mask, Prepared, Profile};
pub use state::CycleState;
pub use status::{Code, Status};
