use std::collections::BTreeMap;

use trireme_schema::Quantity;

/// Name of a resource beyond CPU, memory and ephemeral storage, such as `nvidia.com/gpu`.
pub type ResourceName = Box<str>;

/// A resource list of the API.
pub type ResourceList = BTreeMap<Box<str>, Box<str>>;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Number of pods (of a node's allocatable).
    pub pods: i64,
    /// Everything else, sorted by name. Few pods have any, so this is empty mostly and costs no memory.
    pub extended: Vec<(ResourceName, i64)>,
}

/// Why a quantity cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{resource}: {quantity:?} is not a quantity")]
pub struct BadQuantity {
    /// The resource.
    pub resource: String,
    /// What was given for it.
    pub quantity: String,
}

impl Resources {
    /// Reads a resource list of the API.
    ///
    /// # Errors
    /// A quantity that is none.
    pub fn read(list: &ResourceList) -> Result<Self, BadQuantity> {
        let mut resources = Self::default();
        for (name, text) in list {
            let quantity: Quantity =
                text.parse().map_err(|_| BadQuantity { resource: name.to_string(), quantity: text.to_string() })?;
            match &**name {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => resources.pods = quantity.value(),
                _ => resources.extended.push((name.clone(), quantity.value())),
            }
        }
        Ok(resources)
    }

    /// The amount of an extended resource.
    pub fn extended(&self, name: &str) -> i64 {
        self.extended.iter().find(|(n, _)| **n == *name).map_or(0, |(_, amount)| *amount)
    }

    /// The amount of a resource by its name: thousandths for `cpu`, else units.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            _ => self.extended(name),
        }
    }

    /// Adds other amounts.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes other amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// Raises every amount to at least the other's.
    pub fn raise(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = with(self.pods, other.pods);
        for (name, amount) in &other.extended {
            match self.extended.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => {
                    if let Some((_, own)) = self.extended.get_mut(at) {
                        *own = with(*own, *amount);
                    }
                }
                Err(at) => self.extended.insert(at, (name.clone(), with(0, *amount))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, &str)]) -> ResourceList {
        entries.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn lists_are_read_and_added() {
        let mut a = Resources::read(&list(&[("cpu", "1500m"), ("memory", "1Gi"), ("x.io/gpu", "2")])).unwrap();
        let b = Resources::read(&list(&[("cpu", "1"), ("x.io/gpu", "1"), ("a.io/b", "3")])).unwrap();
        a.add(&b);
        assert_eq!((a.milli_cpu, a.memory, a.get("x.io/gpu"), a.get("a.io/b")), (2_500, 1 << 30, 3, 3));
        a.subtract(&b);
        assert_eq!((a.get("cpu"), a.extended("x.io/gpu"), a.extended("a.io/b")), (1_500, 2, 0));
        assert!(Resources::read(&list(&[("cpu", "x")])).is_err());
    }
}
