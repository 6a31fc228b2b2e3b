//! Admission: plugins that change or refuse a write before it is stored, in the order of the table in [`plugins`].

mod authorizer;
mod certificates;
mod escalation;
mod events;
mod image_policy;
mod images;
mod limit_ranger;
mod namespace;
mod node_restriction;
mod node_selector;
mod options;
mod owners;
mod plugins;
mod pod_security;
mod policies;
mod priority;
mod quota;
mod request;
mod runtime_class;
mod service_account;
mod services;
mod storage;
mod tolerations;
mod topology;
mod webhooks;

pub(crate) use node_restriction::check_token;
pub use options::{Admission, Options};
pub(crate) use plugins::known as known_plugins;
pub(crate) use policies::Known as Policies;
pub(crate) use webhooks::{Known as Webhooks, ServiceAddresses};

use crate::registry::Target;
use crate::server::ApiServer;
use trireme_schema::{Status, Value};
use trireme_store::Txn;
use trireme_webhooks::admission::Phase;

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
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Writes that must happen with this one, or not at all: what quotas count as used.
    riders: parking_lot::Mutex<Vec<Txn>>,
}

impl<'a> Attributes<'a> {
    /// The attributes of a request.
    pub fn new(server: &'a ApiServer, target: &'a Target, operation: Operation) -> Self {
        Self { server, target, operation, dry_run: false, riders: parking_lot::Mutex::default() }
    }

    /// The same for a request that stores nothing.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// The write together with those that go with it.
    pub fn with_riders(&self, mut txn: Txn) -> Txn {
        for rider in self.riders.lock().drain(..) {
            txn.compare.extend(rider.compare);
            txn.ops.extend(rider.ops);
        }
        txn
    }

    /// Whether the request is about this resource (of any version) itself or a subresource of it.
    fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        let served = &self.target.served;
        served.group() == group && served.plural() == plural && self.target.subresource == subresource
    }

    /// Whether a new object of this resource is made.
    fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is(group, plural, "")
    }

    /// Whether this is the change of a pod that follows from a binding, which others have been asked about by itself.
    fn follows_binding(&self) -> bool {
        self.operation == Operation::Update && self.is("", "pods", "binding")
    }

    /// Whether an object is made or changed.
    fn writes(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
    }

    /// The name of the object.
    fn name<'b>(&'b self, object: &'b Value) -> &'b str {
        match self.target.name.as_str() {
            "" => object.str_at(&["metadata", "name"]),
            name => name,
        }
    }

    /// A refusal in upstream's form.
    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let served = &self.target.served;
        Status::forbidden(served.group(), served.plural(), self.name(object), why)
    }

    /// A refusal that names an object without a name as well as it can.
    fn forbidden_by_policy(&self, object: &Value, why: &str) -> Status {
        let served = &self.target.served;
        let names = [self.name(object), object.str_at(&["metadata", "generateName"]), "Unknown"];
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        Status::forbidden(served.group(), served.plural(), name, why)
    }
}

/// What changes an object: plugins in upstream's order, then policies, then webhooks. When one of the last two changed it,
/// the plugins look at it again, and those policies and webhooks that want to see what was changed after them.
///
/// # Errors
/// The first refusal.
pub async fn mutate(attributes: &mut Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    plugins(attributes, object, old)?;
    let mut policies = policies::Mutating::default();
    let changed = mutate_by_policies(&mut policies, attributes, object, old).await?;
    let mut webhooks = webhooks::Mutating::of(attributes);
    if webhooks.ask(attributes, object, old).await? || changed {
        plugins(attributes, object, old)?;
        mutate_by_policies(&mut policies, attributes, object, old).await?;
        webhooks.ask(attributes, object, old).await?;
    }
    Ok(())
}

async fn mutate_by_policies(
    policies: &mut policies::Mutating,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<bool, Status> {
    let runs = attributes.server.admission.plugins.iter().any(|p| p.policies == Some(Phase::Mutating));
    if runs { policies.ask(attributes, object, old).await } else { Ok(false) }
}

fn plugins(attributes: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    for plugin in &attributes.server.admission.plugins {
        if let Some(mutate) = plugin.mutate {
            mutate(attributes, object, old)?;
        }
    }
    Ok(())
}

/// What only refuses: plugins and webhooks, and quota last, since it takes what it allows.
///
/// # Errors
/// The first refusal.
pub async fn validate(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    // No plugin upstream, and thus not to be turned off: RBAC's own objects hold to it.
    escalation::check(attributes, object, old).await?;
    for plugin in &attributes.server.admission.plugins {
        if let Some(validate) = plugin.validate {
            validate(attributes, object, old)?;
        }
        if let Some(ask) = plugin.ask {
            ask(attributes, object, old).await?;
        }
        validate_by_others(plugin, attributes, object, old).await?;
    }
    Ok(())
}

/// Asks validating policies and webhooks, where the plugin is one that does.
async fn validate_by_others(
    plugin: &plugins::Plugin,
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if plugin.policies == Some(Phase::Validating) {
        policies::validate(attributes, object, old).await?;
    }
    if plugin.webhooks == Some(Phase::Validating) {
        webhooks::validate(attributes, object, old).await?;
    }
    Ok(())
}

/// Asks validating policies and webhooks about a binding; plugins see the change of the pod that comes of it.
///
/// # Errors
/// The first refusal.
pub async fn bind(attributes: &Attributes<'_>, binding: &Value) -> Result<(), Status> {
    for plugin in &attributes.server.admission.plugins {
        validate_by_others(plugin, attributes, binding, None).await?;
    }
    Ok(())
}

/// What may keep an object from being deleted.
///
/// # Errors
/// The first refusal.
pub async fn delete(attributes: &Attributes<'_>, old: &Value) -> Result<(), Status> {
    webhooks::Mutating::of(attributes).ask(attributes, &mut Value::Null, Some(old)).await?;
    validate(attributes, &Value::Null, Some(old)).await
}
