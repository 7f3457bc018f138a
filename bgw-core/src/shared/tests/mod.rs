//! Tables of what a record in a slot may hold, and what of it is refused.

mod gifts;
mod output;
mod recycle;
mod relations;
mod restart;
mod surroundings;
