//! Lists.

use super::{Schema, Value};
use crate::error::EvalError;
use std::sync::Arc;
use trireme_schema::Value as Json;

/// A list.
#[derive(Clone)]
pub enum List<'a> {
    /// Elements that are read from JSON when somebody looks, and the schema of the list.
    Json(&'a [Json], Option<&'a dyn Schema>),
    /// Elements that are there.
    Values(Arc<Vec<Value<'a>>>),
    /// The sum of a list with a schema and another: the schema says when it equals others.
    Sum(Arc<Vec<Value<'a>>>, &'a dyn Schema),
}

impl std::fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            List::Json(items, _) => items.fmt(f),
            List::Values(items) | List::Sum(items, _) => items.fmt(f),
        }
    }
}

impl<'a> List<'a> {
    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Values(items) | List::Sum(items, _) => items.len(),
        }
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element.
    ///
    /// # Errors
    /// The JSON does not fit the schema.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            List::Json(items, schema) => {
                items.get(index).map(|item| Value::from_json(item, schema.and_then(|s| s.items())))
            }
            List::Values(items) | List::Sum(items, _) => items.get(index).cloned().map(Ok),
        }
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> + use<'a, '_> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All elements.
    ///
    /// # Errors
    /// The JSON does not fit the schema.
    pub fn values(&self) -> Result<Vec<Value<'a>>, EvalError> {
        self.iter().collect()
    }

    /// The schema of a list that is read with one.
    pub(crate) fn schema(&self) -> Option<&'a dyn Schema> {
        match self {
            List::Json(_, schema) => *schema,
            List::Sum(_, schema) => Some(*schema),
            List::Values(_) => None,
        }
    }
}
