//! Workers in a shared library: how a library exports one.

/// Exports a worker's main from a library (a crate of type `cdylib`) under a name that workers can
/// be registered with: `export_worker!(name, function)`, where `function` is a
/// `fn(&mut Worker) -> Result<(), E>`.
///
/// ```
/// use bgw_backend::{Worker, WorkerError};
///
/// fn sweep(worker: &mut Worker) -> Result<(), WorkerError> {
///     worker.unblock_signals()?;
///     // ... work ...
///     Ok(())
/// }
///
/// // Registered with `.library("/path/libsweep.so", "sweep_main")`.
/// bgw_backend::export_worker!(sweep_main, sweep);
/// ```
#[macro_export]
macro_rules! export_worker {
    ($name:ident, $main:expr) => {
        /// A background worker's main, for the host that loads this library.
        ///
        /// # Safety
        /// Only the host calls it, with its context.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            context: *const $crate::__private::LibraryContext,
        ) -> ::std::ffi::c_int {
            // SAFETY: the host passed `context` to this very function, which has not returned.
            unsafe { $crate::__private::run_in_library(context, $crate::entry($main)) }
        }
    };
}
