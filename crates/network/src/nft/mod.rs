//! nftables over netlink: expressions, and batches that the kernel takes as a whole (`linux/netfilter/nf_tables.h`).

mod batch;
mod expression;
mod key;

pub(crate) use batch::{Batch, Field, Hook, NftSocket, SetKind, SetSpec};
pub(crate) use expression::{Cmp, Expr, Reg, Reject, Verdict};
pub(crate) use key::{Data, Element, Key};
