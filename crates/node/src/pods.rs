//! The pods that a node has admitted: what it gives away, and to whom.

use crate::admit::Rejection;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use trireme_schema::Value;

/// The pods that were admitted and are not over, by UID.
#[derive(Default)]
pub(crate) struct Pods(Mutex<HashMap<String, Arc<Value>>>);

fn uid(pod: &Value) -> &str {
    pod.str_at(&["metadata", "uid"])
}

impl Pods {
    /// Admits a pod if `judge` agrees, given the others. Two pods are never judged at a time.
    pub(crate) fn admit(
        &self,
        pod: &Arc<Value>,
        judge: impl FnOnce(&[&Value]) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let mut all = self.0.lock();
        let others: Vec<&Value> = all.values().filter(|o| uid(o) != uid(pod)).map(|o| &**o).collect();
        judge(&others)?;
        all.insert(uid(pod).to_owned(), pod.clone());
        Ok(())
    }

    /// Asks something about the others.
    pub(crate) fn beside<T>(&self, pod: &Value, ask: impl FnOnce(&[&Value]) -> T) -> T {
        let all = self.0.lock();
        let others: Vec<&Value> = all.values().filter(|o| uid(o) != uid(pod)).map(|o| &**o).collect();
        ask(&others)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Value>> {
        self.0.lock().values().cloned().collect()
    }

    /// Takes a newer form of a pod that was admitted.
    pub(crate) fn update(&self, pod: &Arc<Value>) {
        if let Some(known) = self.0.lock().get_mut(uid(pod)) {
            *known = pod.clone();
        }
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}
