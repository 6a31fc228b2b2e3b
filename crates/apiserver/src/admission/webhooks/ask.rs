//! One question to one webhook.

use super::{Attributes, Concerned, request};
use crate::admission::authorizer;
use crate::body::{self, FieldValidation};
use crate::catalogue::Served;
use crate::convert;
use crate::reviews::user_value;
use std::sync::Arc;
use trireme_policies::{Meets, Subject};
use trireme_schema::{Status, Value, json};
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
        match (self.meets(wanted, &object, &old), hook.failure_policy) {
            (Meets::Yes, _) => {}
            (Meets::No, _) | (Meets::Unknown(_), FailurePolicy::Ignore) => return Ok(Outcome::NotAsked),
            (Meets::Unknown(why), FailurePolicy::Fail) => {
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

    /// Whether the request meets the webhook's conditions.
    fn meets(&self, wanted: &Served, object: &Value, old: &Value) -> Meets {
        let conditions = &self.concerned.compiled.conditions;
        if conditions.is_empty() {
            return Meets::Yes;
        }
        let name = self.name();
        let about = request::about(self.attributes, wanted, &self.attributes.target.served, &name);
        let nothing = &Value::Null;
        conditions.meets(&Subject {
            object,
            old,
            request: &about,
            asked: &about,
            namespace: nothing,
            params: nothing,
            asks: &authorizer::asks(self.attributes, &name),
        })
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
        let kind = request::kind(self.attributes, wanted);
        let original = request::kind(self.attributes, &target.served);
        let asked = Asked {
            uid: &uid,
            kind: (&kind.0, kind.1),
            named: request::named(wanted, subresource),
            original: ((&original.0, original.1), request::named(&target.served, subresource)),
            name: &self.name(),
            namespace: request::namespace(self.attributes),
            operation: request::operation(self.attributes.operation),
            user: user_value(&target.user),
            object,
            old,
            dry_run: self.attributes.dry_run,
            options: request::options(self.attributes),
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
        let fits = request::object_fits(objects, self.object, self.old);
        Ok(fits && request::namespace_fits(self.attributes, namespaces, self.object, self.old)?)
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
