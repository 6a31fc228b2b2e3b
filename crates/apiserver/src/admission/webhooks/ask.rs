//! One question to one webhook.

use super::conditions::Meets;
use super::{Attributes, Concerned, Operation, operation, request};
use crate::body::{self, FieldValidation};
use crate::catalogue::Served;
use crate::convert;
use crate::reviews::user_value;
use std::sync::Arc;
use trireme_schema::{LabelSelector, Map, Status, Value, json};
use trireme_webhooks::admission::{Asked, FailurePolicy, Phase, Verdict};

/// What is asked of whom.
pub(super) struct Question<'a> {
    pub attributes: &'a Attributes<'a>,
    pub phase: Phase,
    pub concerned: &'a Concerned,
    /// Null when it is deleted.
    pub object: &'a Value,
    pub old: Option<&'a Value>,
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The webhook has nothing to say about this request.
    NotAsked,
    /// The object stays as it is.
    Unchanged,
    /// The object is now this.
    Changed(Value),
}

impl Question<'_> {
    /// Asks it.
    ///
    /// # Errors
    /// The webhook refuses, or does not answer and must.
    pub async fn ask(&self) -> Result<Outcome, Status> {
        let Concerned { compiled, wanted } = self.concerned;
        let hook = &compiled.hook;
        if !self.selected()? {
            return Ok(Outcome::NotAsked);
        }
        let object = request::shown(self.attributes, wanted, self.object);
        let old = request::shown(self.attributes, wanted, self.old.unwrap_or(&Value::Null));
        match compiled.conditions.meets(self.attributes, hook, &object, &old) {
            Meets::Yes => {}
            Meets::No => return Ok(Outcome::NotAsked),
            Meets::Unknown(why) => {
                let target = self.attributes.target;
                let served = &target.served;
                return Err(Status::forbidden(served.group(), served.plural(), &self.name(), &why));
            }
        }
        if self.attributes.dry_run && hook.side_effects {
            return Err(Status::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)));
        }
        let verdict = match self.call(wanted, &object, &old).await {
            Ok(verdict) => verdict,
            Err(why) => {
                let why = format!("failed calling webhook {:?}: {why}", hook.name);
                return match hook.failure_policy {
                    FailurePolicy::Fail => Err(Status::internal(why)),
                    FailurePolicy::Ignore => {
                        tracing::warn!(configuration = hook.configuration, "{why}; the request goes on without it");
                        Ok(Outcome::NotAsked)
                    }
                };
            }
        };
        self.attributes.target.warnings.add(verdict.warnings);
        if let Some(refusal) = verdict.refusal {
            return Err(refusal);
        }
        match verdict.patch {
            Some(patch) if !self.object.is_null() => self.patched(wanted, object, &patch).map(Outcome::Changed),
            _ => Ok(Outcome::Unchanged),
        }
    }

    fn name(&self) -> String {
        match self.attributes.target.name.as_str() {
            "" => self.object.str_at(&["metadata", "name"]).to_owned(),
            name => name.to_owned(),
        }
    }

    async fn call(&self, wanted: &Arc<Served>, object: &Value, old: &Value) -> Result<Verdict, String> {
        let (hook, target) = (&self.concerned.compiled.hook, self.attributes.target);
        let endpoint = hook.endpoint.as_ref().map_err(ToString::to_string)?;
        let reviews = hook.reviews.ok_or("it accepts no version of AdmissionReview that this server knows")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let subresource = &target.subresource;
        let namespace = match target.served.plural() {
            "namespaces" if target.served.group().is_empty() => &target.name,
            _ => &target.namespace,
        };
        let asked = Asked {
            uid: &uid,
            kind: request::kind(self.attributes, wanted),
            named: request::named(wanted, subresource),
            original: (request::kind(self.attributes, &target.served), request::named(&target.served, subresource)),
            name: &self.name(),
            namespace,
            operation: operation(self.attributes.operation),
            user: user_value(&target.user),
            object,
            old,
            dry_run: self.attributes.dry_run,
            options: options(self.attributes),
        };
        let body = asked.review(reviews).into();
        let answer = self.attributes.server.webhooks.caller.post(endpoint, body, hook.timeout).await;
        let answer = answer.map_err(|error| format!("failed to call webhook: {error}"))?;
        Verdict::read(&hook.name, self.phase, reviews, &uid, &answer).map_err(|error| error.to_string())
    }

    /// Whether the labels of namespace and object (the new one or the old) are those that the webhook wants.
    fn selected(&self) -> Result<bool, Status> {
        let hook = &self.concerned.compiled.hook;
        let (namespaces, objects) = match (&hook.namespaces, &hook.objects) {
            (Ok(namespaces), Ok(objects)) => (namespaces, objects),
            (Err(error), _) | (_, Err(error)) => return Err(Status::internal(error)),
        };
        let labelled = |o: &Value| !o.is_null() && objects.matches(o.at(&["metadata", "labels"]));
        let object_fits = objects.is_empty() || labelled(self.object) || self.old.is_some_and(labelled);
        Ok(object_fits && self.namespace_fits(namespaces)?)
    }

    fn namespace_fits(&self, selector: &LabelSelector) -> Result<bool, Status> {
        let target = self.attributes.target;
        if selector.is_empty() {
            return Ok(true);
        }
        if target.served.group().is_empty() && target.served.plural() == "namespaces" {
            let of = if self.object.is_null() { self.old.unwrap_or(&Value::Null) } else { self.object };
            return Ok(selector.matches(of.at(&["metadata", "labels"])));
        }
        if !target.served.resource.namespaced {
            return Ok(true);
        }
        let namespace = self.attributes.server.read("", "namespaces", "", &target.namespace);
        let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", &target.namespace))?;
        Ok(selector.matches(namespace.at(&["metadata", "labels"])))
    }

    /// The object after the webhook's patch of what it was shown.
    fn patched(&self, wanted: &Served, shown: Value, patch: &[u8]) -> Result<Value, Status> {
        let patch = json::parse(patch).map_err(Status::internal)?;
        let tree = crate::patch::json_patch::apply(&patch, shown, false).map_err(|s| Status::internal(s.message))?;
        if self.attributes.target.subresource == "scale" {
            let mut object = self.object.clone();
            object.set_at(&["spec", "replicas"], tree.int_at(&["spec", "replicas"]).unwrap_or_default());
            return Ok(object);
        }
        let patched =
            body::object(wanted, tree, FieldValidation::Ignore).map_err(|s| Status::internal(s.message))?.value;
        let served = &self.attributes.target.served;
        if served.resource.gv == wanted.resource.gv {
            return Ok(patched);
        }
        let object = served.read(&convert::between(wanted, served, &patched));
        Ok(object)
    }
}

/// The options of the operation, as a review shows them.
fn options(attributes: &Attributes<'_>) -> Value {
    let kind = match attributes.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = Map::from_iter([("kind", kind), ("apiVersion", "meta.k8s.io/v1")]);
    if attributes.dry_run {
        options.insert("dryRun", vec!["All"]);
    }
    Value::Object(options)
}
