//! From what people type to instances: a name, a namespace, an id, or `all`.

use super::command::{Refusal, RefusalKind};
use super::fleet::Fleet;
use super::instance::{Instance, Want};
use super::name::{Id, nearest};

impl Fleet {
    /// The instances that the targets mean, each once, in order of id.
    ///
    /// # Errors
    /// The first target that means nothing, with the nearest name that does.
    pub fn targets(&self, targets: &[String]) -> Result<Vec<Id>, Refusal> {
        let mut ids = Vec::new();
        for target in targets {
            let found = self.target(target);
            if found.is_empty() && target != "all" {
                return Err(self.unknown(target));
            }
            ids.extend(found);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn target(&self, target: &str) -> Vec<Id> {
        self.meant(target, |one| one.want != Want::Gone)
    }

    /// Those that were deleted before, and still live, which the targets mean.
    pub(super) fn leaving(&self, targets: &[String]) -> Vec<Id> {
        targets.iter().flat_map(|target| self.meant(target, |one| one.want == Want::Gone)).collect()
    }

    fn meant(&self, target: &str, counts: fn(&Instance) -> bool) -> Vec<Id> {
        let select = |wanted: &dyn Fn(&Instance) -> bool| -> Vec<Id> {
            self.instances.values().filter(|one| counts(one) && wanted(one)).map(|one| one.id).collect()
        };
        let tries: [&dyn Fn(&Instance) -> bool; 5] = [
            &|_| target == "all",
            &|one| one.app.as_str() == target,
            &|one| one.name == target || format!("{}-{}", one.app, one.slot) == target,
            &|one| self.apps.get(&one.app).is_some_and(|app| app.spec.namespace == target),
            &|one| target.parse() == Ok(one.id.0),
        ];
        tries.into_iter().map(select).find(|ids| !ids.is_empty()).unwrap_or_default()
    }

    fn unknown(&self, target: &str) -> Refusal {
        let present = self.instances.values().filter(|one| one.want != Want::Gone);
        let names = present.flat_map(|one| {
            let namespace = self.apps.get(&one.app).map(|app| app.spec.namespace.as_str());
            [Some(one.name.as_str()), Some(one.app.as_str()), namespace].into_iter().flatten()
        });
        Refusal {
            kind: RefusalKind::NoSuchApp,
            error: format!("no app, namespace or id `{target}`"),
            hint: match nearest(target, names) {
                Some(name) => Some(format!("did you mean `{name}`?")),
                None if self.instances.is_empty() => {
                    Some("there are no apps yet; `stead start FILE` starts some".into())
                }
                None => Some("`stead list` shows what there is".into()),
            },
        }
    }
}
