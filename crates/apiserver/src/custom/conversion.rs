//! Objects in other versions, by the webhook of their definition.

use super::{Custom, Definition};
use crate::catalogue::Served;
use crate::server::ApiServer;
use std::sync::Arc;
use std::time::Duration;
use trireme_extensions::{default, prune};
use trireme_schema::{GroupVersion, Status, Value, json};
use trireme_store::{Record, Template};
use trireme_webhooks::{Endpoint, conversion};

/// How long a webhook may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a definition's webhook listens, if it has one; why that cannot be used.
pub(super) fn endpoint(crd: &Value) -> Option<Result<Endpoint, String>> {
    let conversion = crd.at(&["spec", "conversion"]).filter(|c| c.str_at(&["strategy"]) == "Webhook")?;
    let config = conversion.at(&["webhook", "clientConfig"]).cloned().unwrap_or_default();
    Some(Endpoint::read(&config).map_err(|error| error.to_string()))
}

impl Definition {
    /// An object that was stored in one of its versions, as that version's schema has it.
    pub(super) fn as_stored(&self, object: &mut Value) -> GroupVersion {
        let stored = GroupVersion::parse(object.str_at(&["apiVersion"]));
        if let Some(node) = self.versions.get(&stored.version) {
            prune::object(object, Some(node));
            prune::nulls(object, Some(node));
            default::apply(object, node);
        }
        stored
    }
}

impl Custom {
    /// Whether objects go through a webhook.
    pub(crate) fn converts(&self) -> bool {
        self.definition.webhook.is_some()
    }
}

/// A converted object keeps what says which object it is: only labels and annotations may have changed.
fn same_object(before: &Value, mut after: Value) -> Result<Value, String> {
    for name in ["name", "namespace", "uid"] {
        let of = |object: &Value| object.str_at(&["metadata", name]).to_owned();
        if of(before) != of(&after) {
            return Err(format!("must have the same {name}: {} != {}", of(&after), of(before)));
        }
    }
    if before.str_at(&["kind"]) != after.str_at(&["kind"]) {
        let (want, got) = (before.str_at(&["kind"]), after.str_at(&["kind"]));
        return Err(format!("invalid kind (expected {want}, got {got})"));
    }
    let mut metadata = before.get("metadata").cloned().unwrap_or_default();
    for name in ["labels", "annotations"] {
        match after.at(&["metadata", name]) {
            Some(given) => metadata.set_at(&[name], given.clone()),
            None => drop(metadata.remove_at(&[name])),
        }
    }
    after.set_at(&["metadata"], metadata);
    Ok(after)
}

impl ApiServer {
    async fn convert(
        &self,
        endpoint: &Result<Endpoint, String>,
        objects: Vec<Value>,
        version: &GroupVersion,
    ) -> Result<Vec<Value>, Status> {
        let Some(first) = objects.first() else { return Ok(objects) };
        let kind = format!("{}, Kind={}", first.str_at(&["apiVersion"]), first.str_at(&["kind"]));
        let failed = |why: String| Status::failure(500, "", format!("conversion webhook for {kind} failed: {why}"));
        let endpoint = endpoint.as_ref().map_err(|why| failed(why.clone()))?;
        let (uid, version) = (uuid::Uuid::new_v4().to_string(), version.to_string());
        let body = conversion::request(&uid, &version, objects.clone());
        let answer =
            self.webhooks.caller.post(endpoint, body.into(), PATIENCE).await.map_err(|e| failed(e.to_string()))?;
        let after = conversion::answer(&uid, &version, objects.len(), &answer).map_err(|e| failed(e.to_string()))?;
        let strange =
            |why| Status::failure(500, "", format!("conversion webhook for {kind} returned invalid metadata: {why}"));
        objects.iter().zip(after).map(|(before, after)| same_object(before, after).map_err(strange)).collect()
    }

    /// Records with their objects in the version that is served, where that takes a webhook.
    ///
    /// # Errors
    /// 500 when the webhook fails.
    pub(crate) async fn in_version(
        &self,
        served: &Served,
        mut records: Vec<Arc<Record>>,
    ) -> Result<Vec<Arc<Record>>, Status> {
        let Some(definition) = served.custom.as_ref().map(|custom| &custom.definition) else { return Ok(records) };
        let Some(endpoint) = &definition.webhook else { return Ok(records) };
        let (mut places, mut objects) = (Vec::new(), Vec::new());
        for (place, record) in records.iter().enumerate() {
            let mut object = json::parse(&record.value).unwrap_or_default();
            if definition.as_stored(&mut object) != served.resource.gv {
                places.push(place);
                objects.push(object);
            }
        }
        let converted = self.convert(endpoint, objects, &served.resource.gv).await?;
        for (place, object) in places.into_iter().zip(converted) {
            let r = &records[place];
            let bytes = json::to_vec(&object).into();
            let other = Record::new(r.key.clone(), bytes, r.create_revision, r.mod_revision, r.version);
            records[place] = Arc::new(other.expiring(r.expires));
        }
        Ok(records)
    }

    /// One record, as [`ApiServer::in_version`].
    ///
    /// # Errors
    /// 500 when the webhook fails.
    pub(crate) async fn one_in_version(&self, served: &Served, record: Arc<Record>) -> Result<Arc<Record>, Status> {
        if served.custom.as_ref().is_none_or(|custom| !custom.converts()) {
            return Ok(record);
        }
        let converted = self.in_version(served, vec![record]).await?;
        converted.into_iter().next().ok_or_else(|| Status::internal("a record got lost"))
    }

    /// What is stored of an object, in the version in which that is done.
    ///
    /// # Errors
    /// 500 when the webhook fails.
    pub(crate) async fn stored_form(&self, served: &Served, object: &mut Value) -> Result<Template, Status> {
        let Some(definition) = served.custom.as_ref().map(|custom| &custom.definition) else {
            return Ok(self.template(served, object));
        };
        let Some(endpoint) = definition.webhook.as_ref().filter(|_| definition.storage != served.resource.gv) else {
            return Ok(self.template(served, object));
        };
        let mut sent = object.clone();
        sent.set_at(&["apiVersion"], served.resource.gv.to_string());
        let converted = self.convert(endpoint, vec![sent], &definition.storage).await?;
        let mut stored = converted.into_iter().next().unwrap_or_default();
        prune::object(&mut stored, definition.versions.get(&definition.storage.version).map(|node| &**node));
        Ok(self.template(served, &mut stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn a_converted_object_is_the_same_object() {
        let before =
            value!({"kind": "X", "metadata": {"name": "a", "uid": "u", "generation": 3, "labels": {"a": "b"}}});
        let after = value!({"kind": "X", "metadata": {"name": "a", "uid": "u", "annotations": {"c": "d"}}, "spec": {}});
        let kept = same_object(&before, after).unwrap();
        assert_eq!(kept.int_at(&["metadata", "generation"]), Some(3));
        assert_eq!(kept.str_at(&["metadata", "annotations", "c"]), "d");
        assert!(kept.at(&["metadata", "labels"]).is_none());
        let other = value!({"kind": "X", "metadata": {"name": "b", "uid": "u"}});
        assert_eq!(same_object(&before, other).unwrap_err(), "must have the same name: b != a");
    }
}
