//! What a policy or condition looks at.

use std::sync::Arc;
use trireme_cel::Value as Cel;
use trireme_cel::library::{Authorizer, ResourceSubject, authorizer_value, request_resource_value};
use trireme_schema::Value;

/// What it means when an expression fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The request is refused.
    Fail,
    /// As if the policy were not there.
    Ignore,
}

impl FailurePolicy {
    /// Reads the `failurePolicy` of a policy's spec.
    pub fn read(text: &str) -> Self {
        match text {
            "Ignore" => Self::Ignore,
            _ => Self::Fail,
        }
    }
}

/// The variables `authorizer` and `authorizer.requestResource`.
#[derive(Clone, Debug)]
pub struct Asks {
    pub(crate) authorizer: Cel<'static>,
    pub(crate) request_resource: Cel<'static>,
}

impl Asks {
    /// Of a request's user, about the request's resource.
    pub fn new(authorizer: Arc<dyn Authorizer>, resource: ResourceSubject) -> Self {
        Self {
            request_resource: request_resource_value(authorizer.clone(), resource),
            authorizer: authorizer_value(authorizer),
        }
    }
}

/// A request, as expressions see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The new object; null when it is deleted.
    pub object: &'a Value,
    /// The old one; null when there is none.
    pub old: &'a Value,
    /// The request, with the resource and kind in which the policy matched it.
    pub request: &'a Value,
    /// The request as conditions see it: with the resource that was asked for.
    pub asked: &'a Value,
    /// The namespace of the object; null when it has none.
    pub namespace: &'a Value,
    /// The object that a binding refers to; null for none.
    pub params: &'a Value,
    /// What the user may do.
    pub asks: &'a Asks,
}
