//! Admission: plugins that change or refuse a write before it is stored.

mod escalation;
mod limits;
mod namespace;
mod nodes;
mod pods;
mod storage;

use crate::registry::Target;
use crate::server::ApiServer;
use trireme_schema::{Status, Value};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed one.
    Update,
    /// One that goes.
    Delete,
    /// A stream to a running one.
    Connect,
}

/// What admission looks at besides the objects.
pub struct Attributes<'a> {
    /// The server, to read other objects.
    pub server: &'a ApiServer,
    /// Who writes what, where.
    pub target: &'a Target,
    /// What is done.
    pub operation: Operation,
}

impl<'a> Attributes<'a> {
    /// The attributes of a request.
    pub fn new(server: &'a ApiServer, target: &'a Target, operation: Operation) -> Self {
        Self { server, target, operation }
    }

    /// Whether the request is about this resource (of any version) itself or a subresource of it.
    fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        let served = &self.target.served;
        served.group() == group && served.plural() == plural && self.target.subresource == subresource
    }

    /// A refusal in upstream's form.
    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let served = &self.target.served;
        let name = match self.target.name.as_str() {
            "" => object.str_at(&["metadata", "name"]),
            name => name,
        };
        Status::forbidden(served.group(), served.plural(), name, why)
    }
}

/// Plugins that change objects, in upstream's order.
///
/// # Errors
/// The first refusal.
pub async fn mutate(attributes: &mut Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    namespace::lifecycle(attributes, object)?;
    pods::taint_new_node(attributes, object);
    limits::defaults(attributes, object);
    pods::service_account(attributes, object)?;
    pods::priority(attributes, object, old)?;
    pods::toleration_seconds(attributes, object);
    storage::default_class(attributes, object);
    storage::default_ingress_class(attributes, object);
    storage::protection(attributes, object);
    pods::runtime_class(attributes, object)?;
    Ok(())
}

/// Plugins that only refuse.
///
/// # Errors
/// The first refusal.
pub async fn validate(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if attributes.operation == Operation::Delete {
        namespace::protect(attributes)?;
    }
    escalation::check(attributes, object, old)?;
    nodes::restriction(attributes, object, old)?;
    limits::limit_ranges(attributes, object)?;
    limits::quota(attributes, object, old)?;
    Ok(())
}
