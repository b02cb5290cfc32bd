//! Problems that stay: each is told once, however often it is met.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was told, by what has the problem.
#[derive(Debug)]
pub(crate) struct Told<K, P = String>(Mutex<HashMap<K, P>>);

impl<K, P> Default for Told<K, P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, P: PartialEq + Clone> Told<K, P> {
    /// Whether a problem is to be told: what has it had none before, or another one.
    pub(crate) fn is_new(&self, of: &K, problem: &P) -> bool {
        let mut told = self.lock();
        if told.get(of).is_some_and(|known| known == problem) {
            return false;
        }
        told.insert(of.clone(), problem.clone());
        true
    }

    /// Has a problem be told again when it comes again.
    pub(crate) fn forget(&self, of: &K) {
        self.lock().remove(of);
    }

    /// Forgets all but the problems of these.
    pub(crate) fn retain(&self, of: impl Fn(&K) -> bool) {
        self.lock().retain(|one, _| of(one));
    }

    /// The problem that something has now.
    pub(crate) fn find(&self, of: &K) -> Option<P> {
        self.lock().get(of).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn a_problem_is_told_when_it_is_new_and_when_it_comes_again() {
        let told = Told::default();
        assert!(told.is_new(&1, &"away"));
        assert!(!told.is_new(&1, &"away"));
        assert!(told.is_new(&2, &"away"), "another has it too");
        assert!(told.is_new(&1, &"full"));
        assert_eq!(told.find(&1), Some("full"));
        told.forget(&1);
        assert_eq!(told.find(&1), None);
        assert!(told.is_new(&1, &"full"));
        told.retain(|one| *one == 2);
        assert!(told.is_new(&1, &"full") && !told.is_new(&2, &"away"));
    }
}
