use std::any::{Any, TypeId};

/// What plugins keep during one decision, by type: each plugin has types of its own.
///
/// A copy is made for every "what if" (preemption, nominated pods), so that data which is large belongs in an `Arc` and
/// is changed with `Arc::make_mut`.
#[derive(Default)]
pub struct CycleState {
    entries: Vec<(TypeId, Box<dyn Data>)>,
}

trait Data: Any + Send + Sync {
    fn copy(&self) -> Box<dyn Data>;
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Clone + Send + Sync> Data for T {
    fn copy(&self) -> Box<dyn Data> {
        Box::new(self.clone())
    }

    fn any(&self) -> &dyn Any {
        self
    }

    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl CycleState {
    /// Keeps a value, in place of one of the same type.
    pub fn set<T: Any + Clone + Send + Sync>(&mut self, value: T) {
        let id = TypeId::of::<T>();
        match self.entries.iter_mut().find(|(known, _)| *known == id) {
            Some((_, entry)) => *entry = Box::new(value),
            None => self.entries.push((id, Box::new(value))),
        }
    }

    /// The value of a type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        let (_, entry) = self.entries.iter().find(|(known, _)| *known == id)?;
        (**entry).any().downcast_ref()
    }

    /// The value of a type, to change it.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        let id = TypeId::of::<T>();
        let (_, entry) = self.entries.iter_mut().find(|(known, _)| *known == id)?;
        (**entry).any_mut().downcast_mut()
    }
}

impl Clone for CycleState {
    fn clone(&self) -> Self {
        Self { entries: self.entries.iter().map(|(id, entry)| (*id, (**entry).copy())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_changed_without_the_original() {
        let mut state = CycleState::default();
        state.set(1_u8);
        state.set("text");
        let mut copy = state.clone();
        *copy.get_mut::<u8>().unwrap() += 1;
        assert_eq!((state.get::<u8>(), copy.get::<u8>()), (Some(&1), Some(&2)));
        assert_eq!((state.get::<&str>(), state.get::<i64>()), (Some(&"text"), None));
    }
}
