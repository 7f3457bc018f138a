//! The templates that workers may be forked from.

use super::PostmasterBuilder;
use crate::error::BuildError;
use crate::template::{NamedTemplate, Template};
use std::any::Any;
use std::error::Error;
use std::rc::Rc;

/// The largest number of templates of a postmaster.
const MOST: usize = 16;

impl PostmasterBuilder {
    /// Adds a template: a child that runs `load` once and then forks the workers that name it
    /// ([`template`](bgw_core::BackgroundWorkerBuilder::template)), which therefore begin with what
    /// it has loaded (`Worker::template_data`). It loads at the start of the postmaster;
    /// [`Template`] has the settings that change this. There are at most 16 templates.
    ///
    /// Its workers are the postmaster's own children, and have all that others have. Their memory
    /// is the template's until either writes to it: the kernel copies page by page.
    ///
    /// **What a worker has of its template**: the value, statics, thread-locals, and descriptors
    /// that `load` has opened, which share their positions with those of all others. `load` runs
    /// with all signals blocked, and may read, compute and map as it likes. The template forks only
    /// while it has one thread, as a postmaster: with more, its workers are not started, and their
    /// reports say so.
    ///
    /// If `load` returns an error, panics, or its process ends, workers that wait for it, and those
    /// that come in the pause after it (0.1 s, doubled by each failure up to a minute), end with
    /// [`TemplateFailed`](bgw_core::NotStarted::TemplateFailed); their reports say why. If a loaded
    /// template dies, another one is loaded: workers that wait start from that one, and running
    /// workers go on. A template lives through a crash reset, since it is not a worker, and ends
    /// with the postmaster.
    ///
    /// ```
    /// use bgw_postmaster::Postmaster;
    ///
    /// let builder = Postmaster::builder()
    ///     .template("words", || std::fs::read_to_string("/usr/share/dict/words"))
    ///     .function("spell", |me| {
    ///         let words: &String = me.template_data().ok_or("no words")?;
    ///         println!("{} lines", words.lines().count());
    ///         Ok(())
    ///     });
    /// # let _ = builder;
    /// ```
    #[doc(alias = "zygote")]
    pub fn template<T, E>(
        self,
        name: impl Into<String>,
        load: impl Fn() -> Result<T, E> + 'static,
    ) -> Self
    where
        T: Any + Send + Sync,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.template_with(name, Template::new(), load)
    }

    /// The same, kept as `settings` say.
    pub fn template_with<T, E>(
        mut self,
        name: impl Into<String>,
        settings: Template,
        load: impl Fn() -> Result<T, E> + 'static,
    ) -> Self
    where
        T: Any + Send + Sync,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let load = move || match load() {
            Ok(value) => Ok(Box::new(value) as Box<dyn Any + Send + Sync>),
            Err(error) => Err(error.into()),
        };
        let name = name.into();
        self.templates.push(Rc::new(NamedTemplate { name, settings, load: Box::new(load) }));
        self
    }

    pub(super) fn check_templates(&self) -> Result<(), BuildError> {
        for (at, template) in self.templates.iter().enumerate() {
            let others = self.templates.iter().take(at);
            let reason = if at >= MOST {
                Some(format!("there are more than {MOST}"))
            } else if others.into_iter().any(|other| other.name == template.name) {
                Some("there are two of this name".to_owned())
            } else if self.run_atfork_handlers {
                Some("a template runs no pthread_atfork handlers when it forks".to_owned())
            } else {
                template.objection()
            };
            if let Some(reason) = reason {
                let name = template.name.escape_debug().to_string();
                return Err(BuildError::Template { name, reason });
            }
        }
        Ok(())
    }
}
