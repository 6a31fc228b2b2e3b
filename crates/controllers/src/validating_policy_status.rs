//! `status.typeChecking` of ValidatingAdmissionPolicies (KEP-3488): what is wrong with their expressions for the kinds that
//! they are about.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;
use trireme_cel::DeclType;
use trireme_client::{Client, Informer, Key, Patch};
use trireme_extensions::Compiler;
use trireme_policies::{Known, Warning, builtin_type, check_types, with_metadata};
use trireme_schema::{GroupVersion, Value, builtin, json as text};

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};

/// Owns what it writes. There is another controller of these policies, upstream, in the API server.
const MANAGER: &str = "validatingadmissionpolicy-status";

pub(crate) struct ValidatingPolicyStatus {
    client: Client,
    policies: Informer<ValidatingAdmissionPolicy>,
    definitions: Informer<CustomResourceDefinition>,
}

impl ValidatingPolicyStatus {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), policies: context.informer(), definitions: context.informer() }
    }
}

/// The kinds that are built in, and those of definitions.
struct Kinds(Vec<Value>);

impl Kinds {
    /// A version of a definition that serves it, found by its name.
    fn versions<'a>(&'a self, version: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
        self.0.iter().filter_map(move |definition| {
            let versions = definition.list_at(&["spec", "versions"]);
            let version = versions.iter().find(|v| v.str_at(&["name"]) == version && v.bool_at(&["served"]))?;
            Some((definition, version))
        })
    }
}

impl Known for Kinds {
    fn kinds(&self, group: &str, version: &str, resource: &str) -> Vec<(GroupVersion, String)> {
        let means = |gv: &GroupVersion| gv.version == version && (group.is_empty() || gv.group == group);
        let own = builtin().resources().iter().filter(|r| r.served && r.plural == resource && means(&r.gv));
        let mut found: Vec<_> = own.map(|r| (r.gv.clone(), r.kind.clone())).collect();
        for (definition, _) in self.versions(version) {
            let gv =
                GroupVersion { group: definition.str_at(&["spec", "group"]).to_owned(), version: version.to_owned() };
            if definition.str_at(&["spec", "names", "plural"]) == resource && means(&gv) {
                found.push((gv, definition.str_at(&["spec", "names", "kind"]).to_owned()));
            }
        }
        found
    }

    fn object_type(&self, gv: &GroupVersion, kind: &str) -> Option<DeclType> {
        builtin_type(gv, kind).or_else(|| {
            let is = |definition: &Value| {
                definition.str_at(&["spec", "group"]) == gv.group
                    && definition.str_at(&["spec", "names", "kind"]) == kind
            };
            let (_, version) = self.versions(&gv.version).find(|(definition, _)| is(definition))?;
            let node = Compiler::default().resource(version.at(&["schema", "openAPIV3Schema"])?);
            DeclType::from_schema(&*node).map(with_metadata)
        })
    }
}

/// What the status of a policy should be, if it is of an older generation.
fn checked(policy: &Value, kinds: &Kinds) -> Option<serde_json::Value> {
    let generation = policy.int_at(&["metadata", "generation"]).unwrap_or_default();
    if generation <= policy.int_at(&["status", "observedGeneration"]).unwrap_or_default() {
        return None;
    }
    let warning = |Warning { field, text }| json!({"fieldRef": field, "warning": text});
    let warnings: Vec<_> = check_types(policy, kinds).into_iter().map(warning).collect();
    let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    Some(json!({"observedGeneration": generation, "typeChecking": checking}))
}

impl Controller for ValidatingPolicyStatus {
    const NAME: &'static str = "validatingadmissionpolicy-status-controller";
    const ACCOUNT: Option<&'static str> = Some("validatingadmissionpolicy-status-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.policies);
        watches.needs(&self.definitions);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.policies.find(key) else { return Ok(Requeue::Never) };
        let read = |bytes: &[u8]| text::parse(bytes).unwrap_or_default();
        let definitions = self.definitions.list().iter().map(|entry| read(&entry.bytes)).collect();
        let Some(status) = checked(&read(&entry.bytes), &Kinds(definitions)) else { return Ok(Requeue::Never) };
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": &*key.name},
            "status": status,
        });
        let patch = Patch::Apply { object, manager: MANAGER.to_owned(), force: true };
        let policies = self.client.all::<ValidatingAdmissionPolicy>();
        policies.patch(&key.name, Some("status"), &patch).await?;
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    fn policy(group: &str, resource: &str, expression: &str) -> Value {
        value!({
            "metadata": {"name": "p", "generation": 3}, "status": {"observedGeneration": 2},
            "spec": {
                "paramKind": {"apiVersion": "example.com/v1", "kind": "Widget"},
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}
                ]},
                "validations": [{"expression": expression}],
            }
        })
    }

    fn kinds() -> Kinds {
        Kinds(vec![value!({"spec": {
            "group": "example.com", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}
            }}}]
        }})])
    }

    #[test]
    fn custom_kinds_and_parameters_are_checked() {
        for (group, resource, expression, wrong) in [
            ("example.com", "widgets", "object.spec.size > 1 && object.metadata.labels.x == object.kind", None),
            ("example.com", "widgets", "object.spec.sizes > 1", Some("undefined field 'sizes'")),
            ("apps", "deployments", "object.spec.replicas > params.spec.size", None),
            ("apps", "deployments", "object.spec.replicas > params.spec.sizes", Some("undefined field 'sizes'")),
            ("", "events", "object.regarding.name == ''", Some("/v1, Kind=Event: ERROR: <input>:1:7: undefined")),
            ("example.com", "gadgets", "object.nope", None),
        ] {
            let status = checked(&policy(group, resource, expression), &kinds()).unwrap();
            assert_eq!(status["observedGeneration"], 3);
            let told = status["typeChecking"]["expressionWarnings"][0]["warning"].as_str();
            match wrong {
                None => assert_eq!(told, None, "{expression}"),
                Some(text) => assert!(told.is_some_and(|told| told.contains(text)), "{expression}: {told:?}"),
            }
        }
    }

    #[test]
    fn a_generation_is_checked_once() {
        let mut seen = policy("apps", "deployments", "object.nope");
        seen.set_at(&["status", "observedGeneration"], 3);
        assert_eq!(checked(&seen, &kinds()), None);
    }
}
