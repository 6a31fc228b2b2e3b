//! Where a custom object tells of its replicas.

use trireme_schema::field::{Error, Path};
use trireme_schema::{Status, Value};

/// Paths, each as it is written, such as `.spec.replicas`.
#[derive(Debug)]
pub(crate) struct Scale {
    spec: String,
    status: String,
    selector: Option<String>,
}

fn steps(path: &str) -> Vec<&str> {
    path.trim_start_matches('.').split('.').collect()
}

/// A whole number at a path; an error when something else is there.
fn number(object: &Value, path: &str) -> Result<Option<i64>, Error> {
    match object.at(&steps(path)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Int(n)) => Ok(Some(*n)),
        Some(other) => {
            let kind = match other {
                Value::Float(_) => "float64",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            let shown = trireme_schema::json::to_string(other);
            let why = format!("{path} accessor error: {shown} is of the type {kind}, expected int64");
            Err(Error::invalid(&Path::new(path), 0, why))
        }
    }
}

fn check(object: &Value, path: &str) -> Option<Error> {
    const MOST: i64 = i32::MAX as i64;
    let at = Path::new(path);
    match number(object, path) {
        Err(error) => Some(error),
        Ok(Some(n)) if n < 0 => Some(Error::invalid(&at, n, "should be a non-negative integer")),
        Ok(Some(n)) if n > MOST => Some(Error::invalid(&at, n, format!("should be less than or equal to {MOST}"))),
        Ok(_) => None,
    }
}

impl Scale {
    pub(crate) fn read(scale: &Value) -> Self {
        let selector = scale.at(&["labelSelectorPath"]).and_then(Value::as_str).filter(|path| !path.is_empty());
        Self {
            spec: scale.str_at(&["specReplicasPath"]).to_owned(),
            status: scale.str_at(&["statusReplicasPath"]).to_owned(),
            selector: selector.map(str::to_owned),
        }
    }

    /// The path of the replicas that are wanted.
    pub(crate) fn replicas(&self) -> Vec<&str> {
        steps(&self.spec)
    }

    pub(crate) fn check_spec(&self, object: &Value) -> Option<Error> {
        check(object, &self.spec)
    }

    pub(crate) fn check_status(&self, object: &Value) -> Vec<Error> {
        let selector = self.selector.as_ref().and_then(|path| {
            let strange = object.at(&steps(path)).filter(|value| value.as_str().is_none() && !value.is_null())?;
            let shown = trireme_schema::json::to_string(strange);
            Some(Error::invalid(
                &Path::new(path),
                "",
                format!("{path} accessor error: {shown} is of the type {}, expected string", strange.json_type()),
            ))
        });
        check(object, &self.status).into_iter().chain(selector).collect()
    }

    /// Replicas wanted, replicas there, and the selector of pods, as `autoscaling/v1` tells them.
    ///
    /// # Errors
    /// 500 when nothing says how many are wanted.
    pub(crate) fn fill(&self, object: &Value, scale: &mut Value) -> Result<(), Status> {
        let read = |path: &str| number(object, path).map_err(|error| Status::internal(error.detail));
        let wanted = read(&self.spec)?;
        if let Some(n) = wanted.filter(|n| *n != 0) {
            scale.set_at(&["spec", "replicas"], n);
        }
        scale.set_at(&["status", "replicas"], read(&self.status)?.unwrap_or_default());
        let selector = self.selector.as_ref().map_or("", |path| object.str_at(&steps(path)));
        if !selector.is_empty() {
            scale.set_at(&["status", "selector"], selector);
        }
        match wanted {
            Some(_) => Ok(()),
            None => Err(Status::internal(format!("the spec replicas field {:?} does not exist", self.spec))),
        }
    }

    /// Changes how many replicas are wanted.
    pub(crate) fn set(&self, object: &mut Value, replicas: i64) {
        object.set_at(&steps(&self.spec), replicas);
    }
}
